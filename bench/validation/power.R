# Power as simr computes it: simulate from the truth, fit with lmerTest, count p < 0.05, as one line
# of JSON. Usage: Rscript power.R DATA.csv N SEED; the truth is the article's, see bench/data.py.
suppressMessages(library(lmerTest))
arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[1])
n <- as.integer(arguments[2])
formula <- y ~ x * a + (1 + x | unit)
cov <- outer(c(0.2, 0.5), c(0.2, 0.5)) * matrix(c(1, 0.9, 0.9, 1), 2)
truth <- list(beta = c(1, 3, -0.15, 0.3), theta = t(chol(cov))[c(1, 2, 4)] / 0.75, sigma = 0.75)
Y <- suppressMessages(simulate(formula[-2], newdata = data, newparams = truth, nsim = n,
              seed = as.integer(arguments[3]), family = gaussian))
quiet <- function(x) suppressMessages(suppressWarnings(x))
used <- system.time(
  p <- vapply(Y, function(y) {
    data$y <- y
    model <- quiet(lmer(formula, data))
    summary(model)$coefficients["x:a", "Pr(>|t|)"]
  }, 0)
)
cat(sprintf('{"rejected": %d, "n": %d, "seconds": %.3f}\n', sum(p < 0.05), n, used[["elapsed"]]))
