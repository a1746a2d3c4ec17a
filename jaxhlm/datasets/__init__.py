"""Three small data sets to try a hierarchical linear model on.

- `article` (900 rows): the data of Ben Ogorek's article on hierarchical linear models and lmer,
  simulated in R with `set.seed(2345)`, `rnorm` and `mvtnorm::rmvnorm(..., pre0.9_9994 = TRUE)`:
  30 units, each measured on the same 30 points of `x`, with a unit-level covariate `a`.
- `math_achieve` (7,185 students in 160 schools): the 1982 High School & Beyond survey as in Bryk &
  Raudenbush, Hierarchical Linear Models; columns of `MathAchieve`, with `Sector` and `MEANSES` of
  `MathAchSchool`, from R's package nlme.
- `sleepstudy` (180 rows): reaction time in ms on successive days of sleep deprivation, 18 subjects;
  Belenky et al. (2003), Journal of Sleep Research 12, 1-12, from R's package lme4.
"""

from importlib import resources
from typing import Literal, get_args

import pandas as pd

from ..errors import OptionError

__all__ = ["DatasetName", "load_dataset"]

DatasetName = Literal["article", "math_achieve", "sleepstudy"]

_FACTORS = {
    "article": (),
    "math_achieve": ("School", "Minority", "Sex", "Sector"),
    "sleepstudy": ("Subject",),
}


def load_dataset(name: DatasetName) -> pd.DataFrame:
    """Read one of the bundled data sets; the module's documentation gives their sources.

    Args:
        name: "article", "math_achieve" or "sleepstudy".

    Returns:
        A new data frame, `(900, 4)`, `(7185, 7)` or `(180, 3)`; labels such as the school's are
        categorical with string levels.

    Raises:
        OptionError: there is no data set of that name.

    Example:
        >>> load_dataset("sleepstudy").head(2)
           Reaction  Days Subject
        0  249.5600     0     308
        1  258.7047     1     308
    """
    if name not in _FACTORS:
        allowed = ", ".join(repr(option) for option in get_args(DatasetName))
        raise OptionError(f"no data set {name!r}: choose one of {allowed}")
    factors = _FACTORS[name]
    with resources.files(__package__).joinpath(f"{name}.csv").open(encoding="utf-8") as source:
        data = pd.read_csv(source, dtype=dict.fromkeys(factors, "str"))
    return data.astype(dict.fromkeys(factors, "category"))
