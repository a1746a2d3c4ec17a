# Criteria of lme4's default fits of many data sets, and theta: JSON arrays, empty where lmer stopped.
# Usage: Rscript optima.R TASKS.csv, a table with columns path, formula and reml.
suppressMessages(library(lme4))
tasks <- read.csv(commandArgs(trailingOnly = TRUE)[1])
control <- lmerControl(calc.derivs = FALSE, check.nobs.vs.nRE = "ignore", check.nobs.vs.rankZ = "ignore")
fit <- function(path, formula, reml) {
  reml <- reml == "True"
  model <- suppressMessages(suppressWarnings(
    lmer(as.formula(formula), read.csv(path), REML = reml, control = control)))
  c(if (reml) REMLcrit(model) else deviance(model), getME(model, "theta"))
}
out <- mapply(function(...) tryCatch(paste(sprintf("%.17g", fit(...)), collapse = ", "), error = function(e) ""),
              tasks$path, tasks$formula, tasks$reml)
cat("[", paste0("[", out, "]", collapse = ", "), "]\n", sep = "")
