# What limma, qvalue and stats say of variances that are shrunk, and of p values that are adjusted:
#   Rscript tests/data/moderation.R     (from the root of the project; writes tests/data/moderation.json)
# limma 3.54: later versions weigh variances of unequal degrees of freedom otherwise.
suppressPackageStartupMessages({
  library(limma)
  library(qvalue)
  library(jsonlite)
})
set.seed(1)
squeezed <- function(variance, df, covariate = NULL) {
  s <- squeezeVar(variance, df, covariate = covariate)
  list(
    variance = variance, df = df, covariate = covariate, df_prior = s$df.prior,
    prior = rep_len(s$var.prior, length(variance)), moderated = s$var.post
  )
}
B <- 60
df <- runif(B, 3, 9)
mean <- rnorm(B, 8, 2)
spread <- 1 / rgamma(B, 4, 4) * rchisq(B, df) / df
p <- round(c(runif(60), rbeta(25, 0.2, 6)), 6)
write_json(list(
  squeezed = list(
    finite = squeezed(spread, df),
    trend = squeezed(spread * exp(-0.3 * mean), df, mean),
    infinite = squeezed(rep(c(0.9, 1.0, 1.1), B / 3), df),
    zeros = suppressWarnings(squeezed(replace(spread, 1:3, 0), df)),
    few = squeezed(spread[1:5], df[1:5], mean[1:5])
  ),
  p = p,
  pi0 = pi0est(p, pi0.method = "bootstrap")$pi0,
  adjusted = list(
    storey = qvalue(p, pi0.method = "bootstrap")$qvalues, BH = p.adjust(p, "BH"),
    BY = p.adjust(p, "BY"), holm = p.adjust(p, "holm"), bonferroni = p.adjust(p, "bonferroni")
  ),
  versions = list(
    limma = format(packageVersion("limma")), qvalue = format(packageVersion("qvalue"))
  )
), "tests/data/moderation.json", digits = NA, auto_unbox = TRUE)
