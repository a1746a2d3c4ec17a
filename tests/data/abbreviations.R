# What R's abbreviate makes of names of fixed effects, as lme4 calls it for the correlation of fixed
# effects: Rscript abbreviations.R > abbreviations.json
names <- c(
  "(Intercept)", "poly(x, 2)1", "poly(x, 2)2", "a", "gq", "gr", "poly(x, 2)1:a", "poly(x, 2)2:a",
  "I(x^2)", "scale(x, center = TRUE)", "MinorityYes", "MinorityNo", "treatmentdrug:time",
  "treatmentplacebo:time", "sectorPublic", "sectorPrivate", "bs(age, df = 4)1",
  "bs(age, df = 4)2", "Minority:SexMale", "Minority:SexFemale", "MEANSES", "SES:MEANSES",
  "factor(visit)10", "factor(visit)11", "x_very_long_name_1", "x_very_long_name_2",
  "log(dose + 1)", "log(dose + 2)", "time.days", "TIMEDAYSLONG1", "TIMEDAYSLONG2"
)
short <- function(length) unname(abbreviate(names, length))
cat(jsonlite::toJSON(list(names = names, "6" = short(6), "11" = short(11)), pretty = TRUE), "\n")
