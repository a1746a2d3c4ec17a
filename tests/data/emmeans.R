# Marginal means, contrasts, trends and joint tests by emmeans, for tests/inference/test_means.py.
# Run in this folder: Rscript emmeans.R. Written with R 4.2, lme4 1.1-31, lmerTest 3.1-3,
# pbkrtest 0.5-2, emmeans 1.8.4.
suppressMessages({library(lmerTest); library(pbkrtest); library(emmeans); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
d <- read.csv("orthodont.csv", stringsAsFactors = TRUE)
d$kind <- factor(rep_len(c("p", "q", "r", "q", "p", "q", "s"), nrow(d)))
d$late <- factor(ifelse(d$age > 11, "yes", "no"))
d$w <- rep_len(c(1, 2, 3), nrow(d))
m <- lmer(distance ~ kind * Sex * age + late + (1 | Subject), d, control = control)
w <- lmer(distance ~ kind * Sex + late + age + (1 | Subject), d, control = control, weights = w)
values <- function(x) {
  x <- as.data.frame(x)
  unname(as.list(x[sapply(x, is.numeric) & names(x) != "age"]))
}
sets <- function(df) {
  emm <- function(...) suppressMessages(emmeans(m, ..., lmer.df = df))
  con <- function(e, ...) values(summary(contrast(e, ...), infer = c(TRUE, TRUE)))
  kind <- emm(~ kind); by <- emm(~ kind | Sex); both <- emm(~ kind * Sex)
  trend <- suppressMessages(emtrends(m, ~ kind | Sex, var = "age", lmer.df = df))
  list(
    by = values(by),
    sidak = values(summary(by, infer = TRUE, adjust = "sidak", null = 0)),
    pairs_by = con(by, "pairwise"),
    revpairs = con(kind, "revpairwise", adjust = "bonferroni"),
    control = con(kind, "trt.vs.ctrl", adjust = "sidak"),
    controlk = con(kind, "trt.vs.ctrlk", adjust = "none"),
    poly = con(kind, "poly"), eff = con(kind, "eff"), del = con(kind, "del.eff", adjust = "holm"),
    consec = con(kind, "consec", adjust = "fdr"), change = con(kind, "mean_chg", adjust = "none"),
    custom = con(kind, list(a = c(1, -1, 0, 0), b = c(0.5, 0.5, -1, 0)), adjust = "holm"),
    interaction = con(both, interaction = c("consec", "pairwise")),
    interaction_by = con(emm(~ kind * age | Sex, at = list(age = c(8, 14))), interaction = c("poly", "pairwise")),
    trend = values(trend), trend_pairs = con(trend, "pairwise"),
    proportional = values(emm(~ Sex, weights = "proportional")),
    outer = values(emm(~ Sex, weights = "outer")),
    cells = values(emm(~ Sex, weights = "cells")),
    at = values(emm(~ kind | Sex, at = list(age = c(8, 14)), weights = "proportional")))
}
joint <- joint_tests(m, lmer.df = "satterthwaite")
joint_by <- joint_tests(m, by = "Sex", lmer.df = "satterthwaite")
out <- list(
  satterthwaite = sets("satterthwaite"), kenward_roger = sets("kenward-roger"),
  weighted = values(suppressMessages(emmeans(w, ~ Sex, weights = "proportional", lmer.df = "satterthwaite"))),
  joint = list(term = as.character(joint[[1]]), values = values(joint)),
  joint_by = list(term = as.character(joint_by[[1]]), values = values(joint_by)))
set.seed(1)
out$mvt <- with(summary(contrast(emmeans(m, ~ kind, lmer.df = "satterthwaite"), "consec"), infer = TRUE),
                list(p.value, lower.CL, upper.CL))
arrows <- plot(emmeans(m, ~ kind, lmer.df = "satterthwaite"), comparisons = TRUE, plotit = FALSE)
out$arrows <- list(arrows$lcmpl, arrows$rcmpl)
writeLines(toJSON(out, digits = I(9), auto_unbox = TRUE, na = "null"), "emmeans.json")
