"""One fit and a batch answer alike: every name that both have, for every kind of fit.

``SHARED`` says how the values of a name are set against each other; a name that both classes have
and that is not in it fails ``test_every_shared_name_is_compared``.
"""

from dataclasses import fields as dataclass_fields
from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol

pytestmark = pytest.mark.filterwarnings(
    "ignore::jaxhlm.errors.RankDeficientWarning",
    "ignore::jaxhlm.errors.SingularFitWarning",
    "ignore::jaxhlm.errors.NotEstimableWarning",
    "ignore::jaxhlm.errors.ConvergenceWarning",
)


def names(cls):
    """The public names of a class, fields of the dataclass included."""
    return {n for n in (*dir(cls), *(f.name for f in dataclass_fields(cls))) if n[0] != "_"}


# How row i of a batch is brought to the form of one fit.


def value(batch, i):
    """Arrays, Series and frames with one row, or entry, per fit."""
    return batch.iloc[i] if hasattr(batch, "iloc") else batch[i]


def block(batch, i):
    """Frames and Series with several rows per fit, the fits first in the index."""
    labels = batch.index.get_level_values(0)
    return batch[labels == list(dict.fromkeys(labels))[i]].droplevel(0)


def long(batch, i):
    """Frames whose first column is the label of the fit."""
    name = batch.columns[0]
    label = list(dict.fromkeys(batch[name]))[i]
    return batch[batch[name] == label].drop(columns=name).reset_index(drop=True)


def keyed(batch, i):
    """Mappings from fits to arrays."""
    return list(batch.values())[i]


def same(batch, i):
    """What all fits share."""
    return batch


def lane(batch, i):
    """Arrays that keep the axis of fits."""
    return batch[i : i + 1]


def row(batch, i):
    """A frame with one row per fit, as the one row of a frame."""
    return batch.iloc[[i]].reset_index(drop=True)


def parts(**how):
    """Objects, by their parts: name of the part and how it is taken."""
    return lambda batch, i: {name: take(getattr(batch, name), i) for name, take in how.items()}


def called(*arguments, **options):
    return lambda method: method(*arguments, **options)


NEW = pd.DataFrame(
    {
        "x": [0.5, -1.0, 3.0],
        "a": ["p", "r", "q"],
        "twice": [1.0, -2.0, 5.0],
        "unit": [0, 2, 99],
        "z": [0.0, 1.0, -1.0],
    }
)
# name: (how to take row i of the batch's value, how to call it if it is a method).
SHARED = {
    **dict.fromkeys(
        ["aic", "aicc", "bic", "criterion", "df_residual", "loglik", "sigma", "singular", "status",
         "iterations", "gradient_norm", "nobs", "ngroups", "theta", "fixef", "se", "vcov"],
        (value, None),
    ),
    **dict.fromkeys(
        ["fitted", "residuals", "residuals_marginal", "residuals_marginal_std", "residuals_std",
         "hatvalues", "cooks_distance", "ranef", "coef", "coef_se"], (block, None)
    ),
    **dict.fromkeys(["ranef_cov", "reliability"], (keyed, None)),
    **dict.fromkeys(["reml", "options"], (same, None)),
    "model": (parts(xnames=same, znames=same, blocks=same, dropped=same, reml=same), None),
    "vcov_adj": (value, None),
    "varcorr": (parts(cov=value, sd=value, corr=value, residual=value), None),
    "estimates": (parts(beta=lane, theta=lane, cov=lane, vcov=lane), None),
    "augment": (block, called()),
    "df": (value, called("kenward-roger")),
    "p_values": (value, called()),
    "r2": (value, called()),
    "variance_fractions": (value, called()),
    "icc": (value, called()),
    "vcov_robust": (value, called()),
    "glance": (row, called()),
    "tidy": (long, called()),
    "tidy_robust": (long, called()),
    "ranef_frame": (long, called()),
    "ranef_qq": (long, called()),
    "shrinkage": (long, called()),
    "varcorr_frame": (long, called()),
    "re_pca": (long, called()),
    "loglik_by": (value, called(False)),
    "rand_test": (long, called()),
    "confint": (long, called()),
    "contrast": (block, called("x - 2*aq = 1/3")),
    "drop1": (block, lambda method: method().table),
    "joint_test": (row, called(["x", "aq"])),
    "joint_test_robust": (row, called(["x", "aq"])),
    "emmeans": (long, called("a")),
    "emtrends": (long, called("a", "x")),
    "joint_tests": (long, called()),
    "predict": (block, called(NEW, interval="prediction")),
    "influence": (parts(fixef=block, dfbetas=block, cooks_distance=block), called()),
    "refit_ml": (parts(fixef=value, criterion=value, reml=same), called()),
}  # fmt: skip
# How the answer of one fit is brought to the columns of a batch's table.
AS_TABLE = {
    "rand_test": lambda found: found.table.rename_axis("term").reset_index(),
    "confint": lambda found: found.reset_index(),
}
# A comparison of two models (test_compared.py), what says other things of one fit and of many, and
# what all else is computed from.
NOT_ALIKE = {"anova", "verify", "summary", "record"}


@cache
def frame():
    rng = np.random.default_rng(7)
    unit = np.repeat(np.arange(12), [4, 7, 5, 6, 3, 8, 5, 6, 4, 5, 7, 6])
    n = len(unit)
    d = pd.DataFrame({"unit": unit, "x": rng.normal(size=n), "a": np.array(list("pqr"))[unit % 3]})
    d["twice"], d["z"] = 2.0 * d["x"], np.tile([-1.0, 0.0, 1.0], n)[:n]
    d["w"] = rng.uniform(0.5, 2.0, n)
    lines = rng.normal(size=(12, 2))
    d["y"] = lines[unit, 0] + (1.0 + lines[unit, 1]) * d["x"] + (d["a"] == "q") + rng.normal(size=n)
    return d


def data(case):
    """With a response without differences between units where the fit is to be singular."""
    d = frame()
    if case == "singular":
        return d.assign(y=d["y"] - d.groupby("unit")["y"].transform("mean"))
    return d[d.index % 9 != 4] if case in ("rows missing", "weights of its own") else d


CASES = {
    "plain": ("y ~ x + a + (1 + x | unit)", {}),
    "aliased": ("y ~ x + a + twice + (1 | unit)", {}),
    "singular": ("y ~ x + a + (1 | unit)", {}),
    "diagonal": ("y ~ x * a + (1 + x || unit)", {}),
    "weighted": ("y ~ x + a + (1 | unit)", {"weights": "w"}),
    "three effects": ("y ~ x + a + z + (1 + x | unit) + (0 + z | unit)", {}),
    "rows missing": ("y ~ x + a + (1 + x | unit)", {}),
    "weights of its own": ("y ~ x + a + (1 + x | unit)", {"weights": "w"}),
    "beside a failure": ("y ~ x + a + (1 | unit)", {}),
    "by ML": ("y ~ x + a + (1 | unit)", {"reml": False}),
    "offset": ("y ~ x + a + offset(exp(z)) + (1 | unit)", {}),
}
KINDS = ("responses", "replicates")


def given(case, kind):
    """What ``fit_many`` is given: a formula, the data, and by keyword which data sets and how."""
    (formula, options), d = CASES[case], data(case)
    other = d.assign(y=1.0 if case == "beside a failure" else d["y"][::-1].to_numpy())
    if kind == "responses" and case == "rows missing":
        # Another response has the rows that this one misses.
        Y = pd.DataFrame({"other": frame()["y"][::-1].to_numpy(), "y": d["y"]}, frame().index)
        return formula, frame(), {"responses": Y, **options}
    if kind == "responses" and case == "weights of its own":
        all_rows = frame()
        Y = pd.DataFrame({"other": all_rows["y"][::-1].to_numpy(), "y": all_rows["y"]})
        w = all_rows["w"].where(all_rows.index.isin(d.index), 0.0)
        W = pd.DataFrame({"other": all_rows["w"] ** 2, "y": w})
        return formula, all_rows, {"responses": Y, "weights": W}
    if kind == "responses":
        Y = pd.DataFrame({"other": other["y"], "y": d["y"]})
        return formula, d, {"responses": Y, **options}
    frames = pd.concat([other.assign(r=0), d.assign(r=1)], ignore_index=True)
    return formula, frames, {"by": "r", **options}


@cache
def fitted(case, kind):
    """A batch whose second fit is the one that is also fitted alone."""
    formula, rows, how = given(case, kind)
    return hlm.fit_many(formula, rows, progress=False, **how)


@cache
def alone(case):
    formula, options = CASES[case]
    return hlm.fit(formula, data(case), **options)


def told(fit, name):
    """What a name says of one fit, or of many."""
    call = SHARED[name][1]
    return call(getattr(fit, name)) if call else getattr(fit, name)


def of_one(name, found, like):
    """The answer of one fit in the form that ``like``, taken from a batch, has."""
    if name in AS_TABLE:
        return AS_TABLE[name](found)
    return {name: getattr(found, name) for name in like} if isinstance(like, dict) else found


def assert_alike(one, other, rtol=tol.ALIKE, atol=tol.ALIKE_ZERO):
    """Equal up to rounding, whatever holds the numbers; labels of rows and columns as well."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_alike(one[key], other[key], rtol, atol)
    elif isinstance(one, tuple):
        assert one == other
    elif isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame):
        assert list(one.columns) == list(other.columns)
        assert one.shape == other.shape
        for j in range(one.shape[1]):
            assert_alike(one.iloc[:, j].to_numpy(), other.iloc[:, j].to_numpy(), rtol, atol)
    else:
        left, right = np.asarray(one), np.asarray(other)
        if left.dtype.kind in "biuf" and right.dtype.kind in "biuf":
            scale = max(1.0, np.nanmax(np.abs(left.astype(float)), initial=1.0))
            np.testing.assert_allclose(left.astype(float), right.astype(float), rtol, atol * scale)
        else:
            # A missing name is None or NaN, as pandas has it.
            assert [None if x != x else x for x in left.ravel().tolist()] == [
                None if x != x else x for x in right.ravel().tolist()
            ]


def test_every_shared_name_is_compared():
    assert names(hlm.Fit) & names(hlm.FitBatch) == {*SHARED} | NOT_ALIKE


def test_the_cases_are_what_they_are_called():
    assert alone("singular").singular and not alone("plain").singular
    assert alone("aliased").model.dropped == ("twice",)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_alike(case, kind):
    fits, one, wrong = fitted(case, kind), alone(case), []
    for name, (take, _) in SHARED.items():
        if case == "by ML" and name in ("vcov_adj", "df"):
            continue
        mine = take(told(fits, name), 1)
        for other in (fits[1], one):
            try:
                assert_alike(mine, of_one(name, told(other, name), mine))
            except AssertionError as error:
                wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


# A data set that has no row of a level that others have; what has a row for it.
BY_LEVELS = ("emmeans", "emtrends", "joint_tests", "predict")

ABSENT = "ar"


def without(found):
    """An answer without the coefficient of the level, the last of four."""
    if isinstance(found, dict):
        return {key: without(part) for key, part in found.items()}
    if isinstance(found, pd.DataFrame):
        found = found[found["term"] != ABSENT] if "term" in found else found
        return found.drop(columns=[c for c in found if c in (ABSENT, f"dfbetas__{ABSENT}")])
    if isinstance(found, pd.Series):
        return found.drop(ABSENT, errors="ignore")
    if isinstance(found, np.ndarray):
        for axis in [k for k in range(found.ndim) if found.shape[k] == 4]:
            found = np.delete(found, 3, axis)
    return found


@cache
def lacking(kind, reml):
    """A batch whose second data set lacks the level, and that data set alone."""
    d, formula = frame(), "y ~ x + a + (1 + x | unit)"
    one = d[d["a"] != "r"]
    if kind == "responses":
        Y = pd.DataFrame({"other": d["y"], "y": d["y"].where(d["a"] != "r")})
        fits = hlm.fit_many(formula, d, responses=Y, progress=False, reml=reml)
    else:
        frames = pd.concat([d.assign(r=0), one.assign(r=1)], ignore_index=True)
        fits = hlm.fit_many(formula, frames, by="r", progress=False, reml=reml)
    return fits, hlm.fit(formula, one, reml=reml)


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_alike_where_a_level_is_absent(kind, reml):
    (fits, alone), wrong = lacking(kind, reml), []
    assert np.isnan(fits.fixef.iloc[1][ABSENT]) and fits.ok.all()
    assert fits[1].model.xnames == alone.model.xnames
    assert fits[1].model.dropped == (ABSENT,)
    for name, (take, _) in SHARED.items():
        if name == "model" or (not reml and name in ("vcov_adj", "df")):
            continue
        mine = without(take(told(fits, name), 1))
        # Alone, a data set does not know the level.
        others = [fits[1]] if name in BY_LEVELS else [fits[1], alone]
        for other in others:
            try:
                assert_alike(mine, without(of_one(name, told(other, name), mine)))
            except AssertionError as error:
                wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)
