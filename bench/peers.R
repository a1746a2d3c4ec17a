# Seconds per fit of lme4 on one workload, the faster of calc.derivs TRUE and FALSE, as one line of
# JSON. Usage: Rscript peers.R WORKLOAD DATA.csv FITS, with the formula in the environment.
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
cat(sprintf('{"seconds": %.8f, "calc_derivs": "%s"}\n', min(seconds),
            c("TRUE", "FALSE")[which.min(seconds)]))
