"""What lme4 and clubSandwich say of six fits (`tests/data/quality.R`), and the same fits here."""

import json
from functools import cache

import jaxhlm as hlm
from lme4_cases import load_case
from places import DATA

R_CASES = {
    "sleepstudy": "sleepstudy",
    "sleepstudy_ml": "sleepstudy",
    "sleepstudy_intercept": "sleepstudy",
    "unbalanced_dropout": "unbalanced_dropout",
    "orthodont_intercept": "orthodont",
    "math_achieve_student": "math_achieve",
}
QUALITY = json.loads((DATA / "quality.json").read_text())


@cache
def r_fit(case):
    record = QUALITY[case]
    return hlm.fit(record["formula"], load_case(R_CASES[case])[0], reml=record["reml"])
