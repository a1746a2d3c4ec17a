# Analyses of variance by lmerTest, for tests/inference/test_terms.py.
# Run in this folder: Rscript terms.R. Written with R 4.2, lme4 1.1-31, lmerTest 3.1-3,
# pbkrtest 0.5-2.
suppressMessages({library(lmerTest); library(pbkrtest); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
d <- read.csv("orthodont.csv", stringsAsFactors = TRUE)
d$kind <- factor(rep_len(c("p", "q", "r", "q", "p", "q", "p"), nrow(d)))
d$late <- factor(ifelse(d$age > 11, "yes", "no"))
d$w <- rep_len(c(1, 2, 3), nrow(d))
d$twice <- 2 * d$age
some <- d[!(d$kind == "r" & d$late == "yes"), ]
fit <- function(f, data = d) suppressMessages(lmer(f, data, control = control))
models <- list(
  three = fit(distance ~ kind * Sex * age + (1 | Subject)),
  factors = fit(distance ~ kind * late + Sex + (1 + age | Subject)),
  weights = lmer(distance ~ kind * late + age + (1 | Subject), d, control = control, weights = w),
  empty = fit(distance ~ kind * late + (1 | Subject), some),
  poly = fit(distance ~ poly(age, 2) * Sex + kind + (1 | Subject)),
  one = fit(distance ~ kind + (1 | Subject)),
  cells = fit(distance ~ kind:late + (1 | Subject)),
  means = fit(distance ~ 0 + kind + Sex + (1 | Subject)),
  slopes = fit(distance ~ Sex + Sex:age + (1 | Subject)),
  aliased = fit(distance ~ age + twice + kind + (1 | Subject)))
# One row per term: Sum Sq, Mean Sq, NumDF, DenDF, F value, Pr(>F).
frame <- function(x) lapply(split(unname(as.matrix(x)), rownames(x)), I)
by_df <- function(test) list(satterthwaite = frame(test("Satterthwaite")),
                             kenward_roger = frame(test("Kenward-Roger")))
tables <- lapply(models, function(m) list(
  III = by_df(function(ddf) anova(m, type = 3, ddf = ddf)),
  II = by_df(function(ddf) anova(m, type = 2, ddf = ddf)),
  I = by_df(function(ddf) anova(m, type = 1, ddf = ddf)),
  drop1 = by_df(function(ddf) drop1(m, ddf = ddf))))
ml <- lmer(distance ~ kind * late + Sex + (1 + age | Subject), d, REML = FALSE)
linear <- anova(ml, lm(distance ~ kind * late + Sex, d))
out <- list(tables = tables, linear = linear$Chisq[2])
writeLines(toJSON(out, digits = I(9), auto_unbox = TRUE, na = "null"), "terms.json")
