"""What type checkers see of the public functions: checked by mypy with the library, never run."""

from typing import assert_type

import numpy as np
import pandas as pd

import jaxhlm as hlm
from jaxhlm.estimation.from_statistics import FittedStatistics
from jaxhlm.inference.lmlist import LmList
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.optimise.minimise import Fitted


def one_fit(data: pd.DataFrame) -> None:
    fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
    assert_type(fit, hlm.Fit)
    assert_type(fit.refit(data["Reaction"].to_numpy()), hlm.Fit)
    assert_type(fit.fixef, pd.Series)
    assert_type(fit.vcov, pd.DataFrame)
    assert_type(fit.ranef, pd.DataFrame)
    assert_type(fit.tidy(), pd.DataFrame)
    assert_type(fit.glance(), pd.DataFrame)
    assert_type(fit.confint(), pd.DataFrame)
    assert_type(fit.sigma, float)
    assert_type(fit.criterion, float)
    assert_type(fit.status, hlm.Status)
    assert_type(fit.singular, bool)


def many_fits(data: pd.DataFrame) -> None:
    fits = hlm.fit_many("~ Days + (1 | Subject)", data, responses=np.ones((180, 3)))
    assert_type(fits, hlm.FitBatch)
    assert_type(fits[0], hlm.Fit)
    assert_type(fits[:2], hlm.FitBatch)
    assert_type(fits.fixef, pd.DataFrame)
    assert_type(fits.tidy(), pd.DataFrame)
    stored = hlm.read_fits("folder")
    assert_type(stored[0], hlm.Fit)
    assert_type(stored[:2], hlm.FitBatch)


def other_functions(data: pd.DataFrame) -> None:
    fit = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
    assert_type(hlm.load_dataset("sleepstudy"), pd.DataFrame)
    assert_type(hlm.lm_list("Reaction ~ Days + (Days | Subject)", data), LmList)
    assert_type(hlm.bootstrap(fit, 100), hlm.Bootstrap)
    design = hlm.design("~ Days + (1 | Subject)", data)
    stats = hlm.suffstats(np.ones(180), design.X, design.Z, design.group, design.G)
    assert_type(stats, Stats)
    assert_type(hlm.minimise(stats), Fitted)
    assert_type(hlm.fit_statistics(stats), FittedStatistics)
