# lme4's fits of formulas that few write: no fixed effects, an offset, contrasts of ordered factors.
#   Rscript tests/data/formulas.R     (from the root of the project; writes tests/data/formulas.json)
suppressPackageStartupMessages({
  library(lme4)
  library(jsonlite)
})
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
d <- read.csv("tests/data/sleepstudy.csv")
d$stage <- factor(c("early", "middle", "late")[1 + d$Days %/% 4], c("early", "middle", "late"))
d$known <- 10 * d$Days
described <- function(formula, contrasts = NULL) {
  fit <- lmer(formula, d, control = tight, contrasts = contrasts)
  list(
    fixef = as.list(unname(fixef(fit))), se = as.list(unname(sqrt(diag(as.matrix(vcov(fit)))))),
    theta = unname(getME(fit, "theta")), criterion = -2 * as.numeric(logLik(fit)),
    sigma = sigma(fit), fitted = unname(fitted(fit))[1:12]
  )
}
staged <- Reaction ~ stage + (1 + Days | Subject)
cases <- list(
  none = described(Reaction ~ 0 + (1 + Days | Subject)),
  offset = described(Reaction ~ Days + offset(known) + (1 + Days | Subject)),
  sum = described(staged, list(stage = "contr.sum")),
  helmert = described(staged, list(stage = "contr.helmert")),
  poly = described(staged, list(stage = "contr.poly"))
)
cases$versions <- list(
  R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4"))
)
write(toJSON(cases, digits = 15, auto_unbox = TRUE), "tests/data/formulas.json")
