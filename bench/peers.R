# Seconds per fit of lme4 on one workload, the faster of calc.derivs TRUE and FALSE, and the peak
# memory of the process, as one line of JSON. Usage: Rscript peers.R WORKLOAD DATA.csv FITS, with the formula in the environment.
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
workload <- arguments[1]
data <- read.csv(arguments[2], stringsAsFactors = TRUE)
fits <- as.integer(arguments[3])
formula <- as.formula(Sys.getenv("BENCH_FORMULA"))
quiet <- function(x) suppressMessages(suppressWarnings(x))

timed <- function(calc_derivs) {
  control <- lmerControl(calc.derivs = calc_derivs)
  if (workload == "lmer") {
    parts <- split(data, data$replicate)[seq_len(fits)]
    quiet(lmer(formula, parts[[1]], control = control))
    used <- system.time(for (part in parts) quiet(lmer(formula, part, control = control)))
  } else {
    model <- quiet(lmer(formula, data, control = control))
    set.seed(1)
    if (workload == "refit") {
      Y <- simulate(model, fits)
      used <- system.time(for (y in Y) quiet(refit(model, y, control = control)))
    } else {
      used <- system.time(for (i in seq_len(fits)) {
        quiet(refit(model, simulate(model, 1)[[1]], control = control))
      })
    }
  }
  used[["elapsed"]] / fits
}

seconds <- c(timed(TRUE), timed(FALSE))
status <- if (file.exists("/proc/self/status")) readLines("/proc/self/status") else character()
peak <- as.numeric(gsub("[^0-9]", "", grep("VmHWM", status, value = TRUE))) / 1024
cat(sprintf('{"seconds": %.8f, "calc_derivs": %d, "peak_mb": %.1f}\n', min(seconds),
            c(1, 0)[which.min(seconds)], if (length(peak)) peak else -1))
