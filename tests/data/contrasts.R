# F tests of several contrasts and marginal means, for test_degrees.py and test_emmeans.py in tests/inference.
# Run in this folder: Rscript contrasts.R. Written with R 4.2, lme4 1.1-31, lmerTest 3.1-3,
# pbkrtest 0.5-2, emmeans 1.8.4.
suppressMessages({library(lmerTest); library(pbkrtest); library(emmeans); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
joint <- function(model, L) {
  s <- contest(model, L, joint = TRUE)
  k <- KRmodcomp(model, L)$test["Ftest", ]
  list(satterthwaite = c(s$DenDF, s$`F value`, s$`Pr(>F)`),
       kenward_roger = c(k$ddf, k$stat, k$p.value))
}
d <- read.csv("orthodont.csv")
d$kind <- rep_len(c("p", "q", "r"), nrow(d))
growth <- lmer(distance ~ age * Sex + kind + (1 + age | Subject), d, control = control)
names_growth <- names(fixef(growth))  # (Intercept) age SexMale kindq kindr age:SexMale
L <- matrix(0, 2, 6); L[1, 2] <- 1; L[2, 6] <- 1
K <- matrix(0, 2, 6); K[1, 4] <- 1; K[2, 5] <- 1
M <- rbind(c(1, 10, 0, 0, 0, 0), c(0, 0, 1, 0, 0, 10), c(0, 2, 0, -1, 0.5, 0))
S <- read.csv("math_achieve.csv", stringsAsFactors = TRUE)
S <- S[as.integer(factor(S$School)) %% 5 < 2, ]
school <- lmer(MathAch ~ SES + Minority + Sex + (1 + SES | School), S, control = control)
N <- matrix(0, 3, 4); N[1, 2] <- 1; N[2, 3] <- 1; N[3, 4] <- 1
frame <- function(x) { x <- as.data.frame(x); x$null <- NULL; x }
means <- function(df) list(
  sex = frame(emmeans(growth, ~ Sex, lmer.df = df)),
  cells = frame(emmeans(growth, ~ Sex * kind, lmer.df = df, at = list(age = 14))),
  ages = frame(emmeans(growth, ~ age, at = list(age = c(8, 14)), lmer.df = df)),
  pairs_tukey = frame(pairs(emmeans(growth, ~ kind, lmer.df = df))),
  pairs_holm = frame(pairs(emmeans(growth, ~ kind, lmer.df = df), adjust = "holm")),
  pairs_none = frame(pairs(emmeans(growth, ~ kind, lmer.df = df), adjust = "none")))
out <- list(terms = names_growth, L = L, K = K, M = M, N = N,
  joint = list(L = joint(growth, L), K = joint(growth, K), M = joint(growth, M),
               N = joint(school, N)),
  n_school = nrow(S), singular = isSingular(school),
  emmeans = list(satterthwaite = means("satterthwaite"), kenward_roger = means("kenward-roger")))
writeLines(toJSON(out, digits = NA, auto_unbox = TRUE, pretty = 1), "contrasts.json")
