# What limma's voom says of counts of 120 genes in 12 samples, and R's lowess of outliers and ties:
#   Rscript tests/data/voom.R           (from the root of the project; writes tests/data/voom.json)
suppressPackageStartupMessages({
  library(limma)
  library(jsonlite)
})
set.seed(1)
genes <- 120
samples <- data.frame(dose = rep(0:2, 4), arm = rep(c("a", "b"), each = 6))
mean <- 2^runif(genes, -1, 11)
counts <- t(sapply(mean, function(m) rnbinom(12, mu = m * runif(12, 0.5, 2), size = 4)))
counts[3, ] <- 0
design <- model.matrix(~ dose * arm, samples)
said <- function(...) {
  v <- voom(counts, design, ...)
  list(E = signif(v$E, 12), weights = signif(v$weights, 12))
}
sizes <- round(colSums(counts) * runif(12, 0.8, 1.2))
x <- sort(c(round(rnorm(25), 1), rep(0.5, 5)))
y <- sin(2 * x) + rt(30, 1)
write_json(list(
  lowess = list(x = x, y = y, half = lowess(x, y, 0.5)$y, most = lowess(x, y, 0.9, 1)$y),
  counts = counts, lib_size = sizes, plain = said(), given = said(lib.size = sizes, span = 0.3),
  version = format(packageVersion("limma"))
), "tests/data/voom.json", digits = NA, auto_unbox = TRUE)
