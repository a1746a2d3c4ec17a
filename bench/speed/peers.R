# Seconds per fit of lme4 on one workload, with calc.derivs TRUE and FALSE, and the peak memory of
# the process: one line of JSON for every line that comes in, until there are no more.
# Usage: Rscript peers.R WORKLOAD DATA.csv FITS, with the formula in the environment.
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
workload <- arguments[1]
data <- read.csv(arguments[2], stringsAsFactors = TRUE)
fits <- as.integer(arguments[3])
formula <- as.formula(Sys.getenv("BENCH_FORMULA"))
quiet <- function(x) suppressMessages(suppressWarnings(x))

set.seed(1)
if (workload == "lmer") {
  parts <- split(data, data$replicate)[seq_len(fits)]
} else {
  model <- quiet(lmer(formula, data))
  Y <- simulate(model, fits)
}
# refit() takes no missing values: every response needs a model of its complete rows.
if (workload == "missing") {
  response <- all.vars(formula)[1]
  parts <- lapply(Y, function(y) {
    data[[response]] <- y
    data[runif(nrow(data)) >= 0.05, ]
  })
}

timed <- function(calc_derivs) {
  control <- lmerControl(calc.derivs = calc_derivs)
  used <- switch(workload,
    lmer = ,
    missing = system.time(for (part in parts) quiet(lmer(formula, part, control = control))),
    refit = system.time(for (y in Y) quiet(refit(model, y, control = control))),
    simulate = system.time(for (i in seq_len(fits)) {
      quiet(refit(model, simulate(model, 1)[[1]], control = control))
    })
  )
  used[["elapsed"]] / fits
}

peak <- function() {
  status <- if (file.exists("/proc/self/status")) readLines("/proc/self/status") else character()
  found <- as.numeric(gsub("[^0-9]", "", grep("VmHWM", status, value = TRUE))) / 1024
  if (length(found)) found else -1
}

input <- file("stdin", open = "r")
while (length(readLines(input, 1))) {
  cat(sprintf('{"with": %.8f, "without": %.8f, "peak_mb": %.1f}\n', timed(TRUE), timed(FALSE), peak()))
  flush(stdout())
}
