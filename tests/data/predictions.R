# What lme4 predicts with part of the random effects (re.form), and the mean that it simulates about:
#   Rscript tests/data/predictions.R     (from the root; writes tests/data/predictions.json)
suppressPackageStartupMessages({
  library(lme4)
  library(jsonlite)
})
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
read <- function(name) read.csv(file.path("tests/data", paste0(name, ".csv")))
predicted <- function(formula, data, new, forms) {
  fit <- lmer(formula, data, control = tight)
  of <- function(form) {
    form <- as.formula(form)
    list(
      rows = unname(predict(fit, re.form = form)),
      new = unname(predict(fit, new, re.form = form, allow.new.levels = TRUE))
    )
  }
  list(formula = format(formula), new = new, forms = setNames(lapply(forms, of), forms))
}
sleep <- read("sleepstudy")
sleep$Subject <- as.character(sleep$Subject)
new <- data.frame(Days = c(0.5, 3, 12, 4), Subject = c("308", "372", "335", "new"))
d <- read("unbalanced_dropout")
d$unit <- as.character(d$unit)
d$half <- factor(ifelse(d$x > mean(d$x), "late", "early"))
units <- data.frame(
  x = c(1, 2, 0.5), a = c(0, 1, 0), half = factor(c("late", "early", "late")),
  unit = c(unique(d$unit)[c(2, 7)], "new")
)
cases <- list(
  sleepstudy = predicted(
    Reaction ~ Days + (1 + Days | Subject), sleep, new,
    c("~ (1 | Subject)", "~ (0 + Days | Subject)", "~ (Days | Subject)", "~ 0")
  ),
  unbalanced_dropout = predicted(
    y ~ x * a + (1 | unit) + (0 + x | unit), d, units,
    c("~ (1 | unit)", "~ (0 + x | unit)", "~ (1 | unit) + (0 + x | unit)")
  ),
  factor = predicted(
    y ~ x + (1 + half | unit), d, units, c("~ (half | unit)", "~ 0")
  )
)
cases$versions <- list(
  R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4"))
)
write(toJSON(cases, digits = 15, auto_unbox = TRUE), "tests/data/predictions.json")
