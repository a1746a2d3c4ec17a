# What lme4 says of rows, and of groups, left out one by one:
#   Rscript tests/data/influence.R     (from the root of the project; writes tests/data/influence.json)
suppressPackageStartupMessages({
  library(lme4)
  library(jsonlite)
})
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
read <- function(name) read.csv(file.path("tests/data", paste0(name, ".csv")))
# influence() of lme4 refits by its own, looser control; ``refits`` are by this one.
left_out <- function(formula, data, reml, group, rows) {
  fit <- do.call(lmer, list(formula, data, REML = reml, control = tight))
  refit <- function(keep) {
    one <- lmer(formula, data[keep, ], REML = reml, control = tight)
    list(
      fixef = unname(fixef(one)), sigma = sigma(one), theta = unname(getME(one, "theta")),
      criterion = -2 * as.numeric(logLik(one))
    )
  }
  of_lme4 <- function(...) {
    found <- influence(fit, data = data, ...)
    list(cooksd = unname(cooks.distance(found)), dfbeta = unname(as.matrix(dfbeta(found))))
  }
  list(
    formula = format(formula), reml = reml, rows = rows - 1,
    refits = lapply(rows, function(i) refit(-i)),
    lme4 = of_lme4(), lme4_group = of_lme4(groups = group)
  )
}
cases <- list(
  sleepstudy = left_out(
    Reaction ~ Days + (1 + Days | Subject), read("sleepstudy"), TRUE, "Subject", c(1, 8, 60, 131)
  ),
  orthodont = left_out(
    distance ~ age * Sex + (1 | Subject), read("orthodont"), FALSE, "Subject", c(1, 49, 108)
  )
)
cases$versions <- list(
  R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4"))
)
write(toJSON(cases, digits = 15, auto_unbox = TRUE), "tests/data/influence.json")
