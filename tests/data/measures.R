# Performance measures of measures.csv by rsimsum and simhelpers, for tests/studies/test_measures.py.
# Run in this folder: Rscript measures.R RSIMSUM SIMHELPERS, the two being the R folders of their
# sources. Written with R 4.2, rsimsum 0.13.1.9000 (6041ba7) and simhelpers 0.3.1.9999 (3b1e25c),
# which are sourced because their current versions do not install under R 4.2.
suppressMessages(library(jsonlite))
folders <- commandArgs(trailingOnly = TRUE)
source(file.path(folders[1], "performance.R"))
for (name in c("calc_absolute.R", "calc_coverage.R", "calc_rejection.R"))
  source(file.path(folders[2], name))
d <- read.csv("measures.csv")
d$low <- d$estimate - qnorm(0.975) * d$std_error
d$high <- d$estimate + qnorm(0.975) * d$std_error
d$p <- 2 * pnorm(-abs(d$estimate / d$std_error))
d[[":true"]] <- d$truth
reference <- d[d$method == "REML", ]
control <- list(mcse = TRUE, level = 0.95, na.rm = TRUE, power_df = NULL)
result <- lapply(split(d, d$method), function(part) {
  s <- .performance(part, "estimate", "std_error", "truth", sd(reference$estimate),
                    cor(reference$estimate, part$estimate), NULL, NULL, control)
  rsimsum <- lapply(split(s[c("est", "mcse")], s$stat), function(row) as.numeric(row))
  a <- calc_absolute(estimates = part$estimate, true_param = part$truth,
                     criteria = c("stddev", "rmse"))
  w <- calc_coverage(lower_bound = part$low, upper_bound = part$high, true_param = part$truth)
  r <- calc_rejection(p_values = part$p)
  list(rsimsum = rsimsum,
       simhelpers = list(empirical_se = c(a$stddev, a$stddev_mcse), rmse = c(a$rmse, a$rmse_mcse),
                         coverage = c(w$coverage, w$coverage_mcse), width = c(w$width, w$width_mcse),
                         power = c(r$rej_rate, r$rej_rate_mcse)))
})
write_json(result, "measures.json", digits = 15, pretty = TRUE, auto_unbox = TRUE)
