# Criteria of lme4's default fits of many data sets, a JSON array with "NA" where lmer stopped.
# Usage: Rscript optima.R TASKS.csv, a table with columns path, formula and reml.
suppressMessages(library(lme4))
tasks <- read.csv(commandArgs(trailingOnly = TRUE)[1])
control <- lmerControl(calc.derivs = FALSE, check.nobs.vs.nRE = "ignore", check.nobs.vs.rankZ = "ignore")
value <- function(path, formula, reml) {
  reml <- reml == "True"
  model <- suppressMessages(suppressWarnings(
    lmer(as.formula(formula), read.csv(path), REML = reml, control = control)))
  if (reml) REMLcrit(model) else deviance(model)
}
out <- mapply(function(...) tryCatch(sprintf("%.12g", value(...)), error = function(e) '"NA"'),
              tasks$path, tasks$formula, tasks$reml)
cat("[", paste(out, collapse = ", "), "]\n", sep = "")
