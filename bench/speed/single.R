# One fit by lme4: CPU seconds (the least of some tries) and the REML criterion, as a line of JSON.
# Usage: Rscript single.R DATA.csv TRIES, with the formula in the environment.
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[1], stringsAsFactors = TRUE)
formula <- as.formula(Sys.getenv("BENCH_FORMULA"))
seconds <- Inf
for (i in seq_len(as.integer(arguments[2]))) {
  used <- system.time(fit <- suppressMessages(suppressWarnings(lmer(formula, data))))
  seconds <- min(seconds, used[["user.self"]] + used[["sys.self"]])
}
cat(sprintf('{"seconds": %.6f, "criterion": %.8f}\n', seconds, REMLcrit(fit)))
