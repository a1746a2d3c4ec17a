# lme4's anova and lmerTest's ranova on the data of this folder: Rscript comparisons.R
suppressMessages({library(lme4); library(lmerTest); library(jsonlite)})
here <- function(name) read.csv(paste0(name, ".csv"))
fit <- function(f, REML = TRUE) eval(bquote(lmerTest::lmer(.(f), d, REML = .(REML),
  control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9)))))
frame <- function(t) { t <- as.data.frame(t); list(rows = rownames(t), columns = as.list(t)) }
d <- here("sleepstudy")  # ranova looks for the data by name
line <- fit(Reaction ~ Days + (1 + Days | Subject))
apart <- fit(Reaction ~ Days + (1 + Days || Subject))
level <- fit(Reaction ~ Days + (1 | Subject))
level_ml <- fit(Reaction ~ Days + (1 | Subject), FALSE)
flat <- fit(Reaction ~ 1 + (1 + Days | Subject))
out <- list(
  versions = c(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
               lmerTest = as.character(packageVersion("lmerTest"))),
  level_apart_line_reml = frame(anova(level, apart, line, refit = FALSE)),
  level_flat_line = frame(suppressMessages(anova(level, flat, line))),
  flat_line = frame(suppressMessages(anova(flat, line))),
  ranova_line = frame(ranova(line)),
  ranova_apart = frame(ranova(apart)),
  ranova_level = frame(ranova(level)),
  ranova_level_ml = frame(ranova(level_ml)))
d <- here("orthodont")
grown <- fit(distance ~ age * Sex + (1 | Subject))
alike <- fit(distance ~ age + (1 | Subject))
out$alike_grown <- frame(suppressMessages(anova(alike, grown)))
write_json(out, "comparisons.json", auto_unbox = TRUE, digits = 12, pretty = TRUE, na = "null")
