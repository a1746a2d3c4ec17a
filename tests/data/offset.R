# What lme4, lmerTest and emmeans make of offset():
#   Rscript tests/data/offset.R     (from the root; writes tests/data/offset.json)
suppressPackageStartupMessages({
  library(lme4)
  library(lmerTest)
  library(emmeans)
  library(jsonlite)
})
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
d <- read.csv("tests/data/sleepstudy.csv")
d$Subject <- as.character(d$Subject)
k <- seq_len(nrow(d))
d$z <- exp(sin(k / 3) + 1)
d$w <- 1 + k %% 3
d$f <- ifelse(as.integer(factor(d$Subject)) %% 2 == 1, "a", "b")
d$z[c(4, 90)] <- NA
formula <- Reaction ~ Days + f + offset(log(z)) + offset(2 * Days) + (1 + Days | Subject)
fit <- lmer(formula, d, weights = w, control = tight, na.action = na.exclude)
new <- data.frame(
  Days = c(0, 3, 12, 4), f = c("a", "b", "a", "b"), z = c(1, 2, 30, 4),
  Subject = c("308", "372", "335", "new")
)
complete <- d[!is.na(d$z), ]
ml <- function(formula) lmer(formula, complete, control = tight, REML = FALSE)
free <- ml(Reaction ~ Days + f + offset(log(z)) + (1 | Subject))
fixed <- ml(Reaction ~ f + offset(log(z)) + offset(2 * Days) + (1 | Subject))
lrt <- as.data.frame(anova(free, fixed))
limits <- suppressMessages(confint(fixed, oldNames = FALSE, quiet = TRUE))
tests <- anova(fit)
degrees <- "satterthwaite"
means <- as.data.frame(emmeans(fit, ~f, lmer.df = degrees))
custom <- contrast(emmeans(fit, ~f, lmer.df = degrees), list(both = c(1, 1), b_less_a = c(-1, 1)))
custom <- as.data.frame(custom)
at <- as.data.frame(emmeans(fit, ~Days, at = list(Days = c(0, 3)), lmer.df = degrees))
out <- list(
  criterion = REMLcrit(fit), fixef = unname(fixef(fit)),
  se = unname(sqrt(diag(as.matrix(vcov(fit))))), sigma = sigma(fit), theta = unname(getME(fit, "theta")),
  fitted = unname(fitted(fit)), resid = unname(resid(fit)), hat = unname(hatvalues(fit)),
  cooksd = unname(cooks.distance(fit)), marginal = unname(predict(fit, re.form = ~0)),
  new = new,
  predicted = unname(predict(fit, new, allow.new.levels = TRUE)),
  population = unname(predict(fit, new, re.form = ~0)),
  simulated_mean = unname(rowMeans(simulate(fit, 4000, seed = 1, use.u = TRUE))),
  lrt = list(chisq = lrt[2, "Chisq"], df = lrt[2, "Df"], logLik = lrt[, "logLik"]),
  terms = list(F = tests[, "F value"], den_df = tests[, "DenDF"]),
  profile = list(rows = rownames(limits), limits = unname(limits)),
  means = list(emmean = means$emmean, se = means$SE, df = means$df, low = means$lower.CL),
  at_days = list(emmean = at$emmean, se = at$SE),
  custom = list(estimate = custom$estimate, t = custom$t.ratio, p = custom$p.value),
  versions = list(
    R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
    lmerTest = as.character(packageVersion("lmerTest")),
    emmeans = as.character(packageVersion("emmeans"))
  )
)
write(toJSON(out, digits = 15, auto_unbox = TRUE, na = "null"), "tests/data/offset.json")
