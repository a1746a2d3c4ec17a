# What lme4 and lmerTest say of responses with weights of their own and missing values:
#   Rscript tests/data/responses.R     (from the root of the project; writes tests/data/responses.json)
suppressPackageStartupMessages({
  library(lme4)
  library(lmerTest)
  library(jsonlite)
})
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
data <- read.csv("tests/data/sleepstudy.csv")
set.seed(5)
B <- 50
n <- nrow(data)
G <- 18
unit <- as.integer(factor(data$Subject, levels = unique(data$Subject)))
one <- function(j) {
  y <- 250 + 10 * data$Days + rnorm(G, 0, 25)[unit] + rnorm(G, 0, 6)[unit] * data$Days + rnorm(n, 0, 25)
  y <- round(y, 3)
  w <- round(rgamma(n, 4, 4), 4) + 0.01
  y[sample(n, 9)] <- NA
  w[sample(n, 4)] <- 0
  rows <- !is.na(y) & w > 0
  fit <- lmer(y ~ Days + (1 + Days | Subject), cbind(data, y = y, w = w)[rows, ], weights = w, control = tight)
  table <- summary(fit)$coefficients
  list(
    y = y, w = w, criterion = REMLcrit(fit), beta = unname(table[, "Estimate"]),
    se = unname(table[, "Std. Error"]), df = unname(table[, "df"]),
    p_value = unname(table[, "Pr(>|t|)"]), sigma = sigma(fit), singular = isSingular(fit)
  )
}
write_json(list(
  fits = lapply(seq_len(B), one),
  versions = list(lme4 = format(packageVersion("lme4")), lmerTest = format(packageVersion("lmerTest")))
), "tests/data/responses.json", digits = 12, auto_unbox = TRUE)
