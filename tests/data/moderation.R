# What limma, qvalue and stats say of variances that are shrunk, and of p values that are adjusted:
#   Rscript tests/data/moderation.R     (from the root of the project; writes tests/data/moderation.json)
# limma 3.54: later versions weigh variances of unequal degrees of freedom otherwise.
suppressPackageStartupMessages({
  library(limma)
  library(qvalue)
  library(jsonlite)
})
set.seed(1)
squeezed <- function(variance, df, covariate = NULL, robust = FALSE) {
  s <- squeezeVar(variance, df, covariate = covariate, robust = robust)
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
m <- 150
equal <- rep(6, m)
unequal <- runif(m, 2, 12)
outlying <- function(x) replace(x, c(3, 40, 77), c(60, 400, 25))
level <- rnorm(m, 8, 2)
along <- function(x) x * exp(0.2 * sin(level) - 0.3 * level)
drawn <- function(df) 1 / rgamma(m, 5, 5) * rchisq(m, df) / df
write_json(list(
  squeezed = list(
    finite = squeezed(spread, df),
    trend = squeezed(spread * exp(-0.3 * mean), df, mean),
    infinite = squeezed(rep(c(0.9, 1.0, 1.1), B / 3), df),
    zeros = suppressWarnings(squeezed(replace(spread, 1:3, 0), df)),
    few = squeezed(spread[1:5], df[1:5], mean[1:5])
  ),
  robust = list(
    equal = squeezed(outlying(drawn(equal)), equal, robust = TRUE),
    unequal = squeezed(outlying(drawn(unequal)), unequal, robust = TRUE),
    none_outlying = squeezed(drawn(equal), equal, robust = TRUE),
    far = squeezed(replace(drawn(unequal), 9, 1e6), unequal, robust = TRUE),
    infinite_but_for_some = squeezed(outlying(rchisq(m, equal) / equal), equal, robust = TRUE),
    infinite_unequal = squeezed(outlying(rchisq(m, unequal) / unequal), unequal, robust = TRUE),
    infinite = squeezed(rep(c(0.9, 1.0, 1.1), m / 3), equal, robust = TRUE),
    zeros = squeezed(replace(outlying(drawn(equal)), 1:3, 0), equal, robust = TRUE),
    few = squeezed(spread[1:9], df[1:9], robust = TRUE),
    some = squeezed(replace(spread[1:12], 2, 50), df[1:12], robust = TRUE),
    trend = squeezed(along(outlying(drawn(equal))), equal, level, robust = TRUE),
    trend_unequal = squeezed(along(outlying(drawn(unequal))), unequal, level, robust = TRUE),
    trend_far = squeezed(along(replace(drawn(unequal), 9:11, 1e11)), unequal, level, robust = TRUE),
    trend_infinite = squeezed(along(outlying(rchisq(m, equal) / equal)), equal, level, TRUE),
    trend_with_ties = squeezed(along(outlying(drawn(equal))), equal, round(level), robust = TRUE)
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
