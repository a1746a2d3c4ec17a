# What lme4 and clubSandwich say of leverage, Cook's distance and robust covariances:
#   Rscript tests/data/quality.R     (from the root of the project; writes tests/data/quality.json)
suppressPackageStartupMessages({
  library(lme4)
  library(clubSandwich)
  library(jsonlite)
})
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
# As tests/cases.py: groups are strings, so that their order is that of the other files.
read <- function(name) read.csv(file.path("tests/data", paste0(name, ".csv")))
sandwich <- function(fit, kind) {
  test <- coef_test(fit, vcov = kind, test = "Satterthwaite")
  list(
    vcov = unname(as.matrix(unclass(vcovCR(fit, type = kind)))[seq_along(fixef(fit)), ]),
    df = test$df_Satt, p_value = test$p_Satt
  )
}
describe <- function(formula, data, reml, rows = TRUE) {
  fit <- lmer(formula, data, REML = reml, control = tight)
  kinds <- c("CR0", "CR1", "CR2")
  out <- list(
    formula = format(formula), reml = reml, theta = unname(getME(fit, "theta")),
    sum_hat = sum(hatvalues(fit)), robust = setNames(lapply(kinds, sandwich, fit = fit), kinds)
  )
  if (rows) {
    out$hat <- unname(hatvalues(fit))
    out$cooksd <- unname(cooks.distance(fit))
  }
  out
}
d <- read("math_achieve")
cases <- list(
  sleepstudy = describe(Reaction ~ Days + (1 + Days | Subject), read("sleepstudy"), TRUE),
  sleepstudy_ml = describe(Reaction ~ Days + (1 + Days | Subject), read("sleepstudy"), FALSE),
  sleepstudy_intercept = describe(Reaction ~ Days + (1 | Subject), read("sleepstudy"), TRUE),
  unbalanced_dropout = describe(y ~ x * a + (1 + x | unit), read("unbalanced_dropout"), TRUE),
  orthodont_intercept = describe(distance ~ age * Sex + (1 | Subject), read("orthodont"), TRUE),
  math_achieve_student = describe(
    MathAch ~ SES * MEANSES + Sex + Minority + (1 + SES | School), d, TRUE, rows = FALSE
  )
)
cases$versions <- list(
  R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
  clubSandwich = as.character(packageVersion("clubSandwich"))
)
write(toJSON(cases, digits = 15, auto_unbox = TRUE), "tests/data/quality.json")
