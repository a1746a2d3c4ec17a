# Kenward and Roger's tests of all fixed effects of many data sets on one design, by lmerTest and
# pbkrtest. Usage: Rscript nominal.R FOLDER FORMULA, with design.csv and responses.csv (a column per
# data set) in FOLDER; writes out.csv there, rows in the order of data sets and terms.
suppressMessages(library(lmerTest))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
formula <- as.formula(arguments[2])
data <- read.csv(file.path(folder, "design.csv"), stringsAsFactors = TRUE)
Y <- as.matrix(read.csv(file.path(folder, "responses.csv"), header = FALSE))
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5),
                       calc.derivs = FALSE)
quiet <- function(x) suppressMessages(suppressWarnings(x))
one <- function(i) {
  data$y <- Y[, i]
  model <- quiet(lmer(formula, data, control = control))
  table <- quiet(summary(model, ddf = "Kenward-Roger")$coefficients)
  data.frame(set = i, name = rownames(table), estimate = table[, "Estimate"],
             se = table[, "Std. Error"], df = table[, "df"], p = table[, "Pr(>|t|)"],
             singular = as.integer(isSingular(model, tol = 1e-4)), criterion = REMLcrit(model))
}
write.csv(do.call(rbind, lapply(seq_len(ncol(Y)), one)), file.path(folder, "out.csv"),
          row.names = FALSE)
