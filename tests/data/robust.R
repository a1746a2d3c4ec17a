# What clubSandwich says of several coefficients (Wald_test, HTZ) and of clusters larger than groups:
#   Rscript tests/data/robust.R     (from the root of the project; writes tests/data/robust.json)
suppressPackageStartupMessages({
  library(lme4)
  library(clubSandwich)
  library(jsonlite)
})
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
read <- function(name) read.csv(file.path("tests/data", paste0(name, ".csv")))
tested <- function(fit, C, cluster, kind) {
  vcov <- vcovCR(fit, cluster = cluster, type = kind)
  single <- coef_test(fit, vcov = vcov, test = "Satterthwaite")
  joint <- Wald_test(fit, C, vcov = vcov, test = "HTZ")
  list(
    se = single$SE, df = single$df_Satt, F = joint$Fstat, den_df = joint$df_denom,
    p_value = joint$p_val
  )
}
described <- function(formula, data, group, C, clusters) {
  fit <- lmer(formula, data, control = tight)
  kinds <- c("CR0", "CR1", "CR2")
  of <- function(cluster) setNames(lapply(kinds, function(k) tested(fit, C, cluster, k)), kinds)
  list(
    formula = format(formula), L = C, groups = of(data[[group]]),
    clusters = if (is.null(clusters)) NULL else of(clusters)
  )
}
d <- read("unbalanced_dropout")
o <- read("orthodont")
m <- read("math_achieve")
cases <- list(
  unbalanced_dropout = described(
    y ~ x * a + (1 + x | unit), d, "unit", rbind(c(0, 0, 1, 0), c(0, 0, 0, 1), c(0, 1, 0, 0)),
    d$unit %/% 5
  ),
  orthodont = described(
    distance ~ age * Sex + (1 | Subject), o, "Subject", rbind(c(0, 0, 1, 0), c(0, 1, 0, 1)),
    paste0(o$Sex, as.integer(substr(o$Subject, 2, 3)) %/% 3)
  ),
  math_achieve = described(
    MathAch ~ SES * MEANSES + (1 + SES | School), m, "School",
    rbind(c(0, 1, 0, 0), c(0, 0, 1, 0), c(0, 0, 0, 1)), as.integer(m$School) %/% 500
  )
)
cases$versions <- list(
  R = as.character(getRversion()), clubSandwich = as.character(packageVersion("clubSandwich"))
)
write(toJSON(cases, digits = 15, auto_unbox = TRUE), "tests/data/robust.json")
