"""Designs drawn at random, also tiny, aliased, constant and of extreme size, and what must hold."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

import jaxhlm as hlm
import tolerances as tol

FORMULAS = [
    "y ~ 1 + (1 | unit)",
    "y ~ x + (1 | unit)",
    "y ~ x + z + (1 + x | unit)",
    "y ~ x * z + (1 + x || unit)",
    "y ~ 0 + x + (0 + z | unit)",
    "y ~ x + a + (1 + z | unit)",
    "y ~ poly(z, 2) + (1 | unit)",
    "y ~ x + f + (1 | unit) + (0 + x | unit)",
]
# Where a column or a response comes from: normal numbers e, the units' own u, and another column.
COLUMNS = {
    "normal": lambda e, u, other: e,
    "of units": lambda e, u, other: u,
    "constant": lambda e, u, other: np.ones(len(e)),
    "zero": lambda e, u, other: np.zeros(len(e)),
    "copy": lambda e, u, other: 2.0 * other + 1.0,
    "near copy": lambda e, u, other: other + 1e-9 * e,
    "few values": lambda e, u, other: np.round(e),
    "one row": lambda e, u, other: (np.arange(len(e)) == len(e) // 2).astype(float),
    "far": lambda e, u, other: 1e7 + e,
    "outlier": lambda e, u, other: np.where(np.arange(len(e)) == 0, 1e8, e),
    "mostly units": lambda e, u, other: u + 1e-6 * e,
}
# Of these digits are lost, so that another order of operations gives other last digits.
LOSSY = ("near copy", "far", "outlier", "mostly units")
EXACT = [kind for kind in COLUMNS if kind not in LOSSY]
SCALES = [1.0, 1.0, 1.0, 1e-3, 1e5, 1e-20, 1e30, 1e-100, 1e95]
BEYOND = [*SCALES, 1e-160, 1e160, 1e-300, 1e300]


@dataclass(frozen=True)
class Data:
    """A drawn data set: its frame, a formula and options of ``fit``."""

    frame: pd.DataFrame
    formula: str
    options: dict[str, Any]


def columns(
    draw: Any, rng: np.random.Generator, unit: Any, scales: list[float], kinds: list[str]
) -> dict[str, Any]:
    """x, z and y of the rows."""
    made = {"": np.zeros(len(unit))}
    for name in "xzy":
        kind = draw(st.sampled_from(kinds))
        scale = draw(st.sampled_from(scales))
        e, u = rng.normal(size=len(unit)), rng.normal(size=50)[unit]
        other = made.get("x", e)
        with np.errstate(all="ignore"):
            made[name] = scale * COLUMNS[kind](e + u * (name == "y"), u, other)
    return {name: made[name] for name in "xzy"}


@st.composite
def data_sets(draw: Any, scales: list[float] = SCALES, kinds: list[str] = EXACT) -> Data:
    """Data of 1 to 9 units of 1 to 6 rows; of one kind of column such that can be fitted."""
    mild = len(kinds) == 1
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    sizes = rng.integers(3, 7, 9) if mild else rng.integers(1, 7, draw(st.integers(1, 9)))
    unit = np.repeat(np.arange(len(sizes)), sizes)
    made = columns(draw, rng, unit, scales, kinds)
    a, f = rng.normal(size=len(sizes))[unit], np.array(list("pqr"))[rng.integers(0, 3, len(unit))]
    frame = pd.DataFrame(made | {"a": a, "f": f, "unit": unit})
    log_sd = draw(st.sampled_from([None, None, 1.0] if mild else [None, None, 1.0, 3.0]))
    options: dict[str, Any] = {"reml": draw(st.booleans())}
    if log_sd is not None:
        options["weights"] = np.exp(log_sd * rng.normal(size=len(unit)))
    return Data(frame, draw(st.sampled_from(FORMULAS)), options)


def quietly(call: Any) -> Any:
    """What a call gives, or our error; warnings may be ours only."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", hlm.JaxhlmWarning)
        try:
            return call()
        except hlm.JaxhlmError as error:
            return error


NUMBERS = ("criterion", "loglik", "sigma", "theta", "fixef", "se", "aic", "bic")


def numbers(fits: Any) -> dict[str, Any]:
    """Estimates of one fit or of many."""
    found = {name: np.asarray(getattr(fits, name), dtype=float) for name in NUMBERS}
    return found | {"cov": np.asarray(fits.varcorr.cov, dtype=float)}


def check_finite(data: Data) -> str:
    """A fit that counts as converged has numbers throughout, and a positive σ."""
    fit = quietly(lambda: hlm.fit(data.formula, data.frame, **data.options))
    if isinstance(fit, hlm.JaxhlmError):
        return type(fit).__name__
    found = numbers(fit)
    if fit.status.ok:
        for name, values in found.items():
            assert np.isfinite(values).all(), f"{name} is {values}, {fit.status.name}"
        assert fit.sigma > 0.0
        assert (fit.se > 0.0).all()
        assert np.isfinite(np.asarray(quietly(lambda: fit.fitted), dtype=float)).all()
        assert np.isfinite(np.asarray(quietly(lambda: fit.ranef), dtype=float)).all()
    quietly(lambda: str(fit.summary()))
    return fit.status.name.lower()


def check_batch(data: Data, others: list[Data], missing: int) -> str:
    """Lanes of a batch are the fits of their data sets alone, and one bad lane harms none.

    The responses are those of ``data``, of ``others`` and of ``data`` with rows missing.
    """
    y, n = data.frame["y"].to_numpy(), len(data.frame)
    Y = [y, *(np.resize(other.frame["y"].to_numpy(), n) for other in others), y.copy()]
    Y[-1][np.arange(n) % (missing + 2) == 1] = np.nan
    fits = quietly(
        lambda: hlm.fit_many(data.formula, data.frame, np.column_stack(Y), **data.options)
    )
    if isinstance(fits, hlm.JaxhlmError):
        return type(fits).__name__
    alone = [
        quietly(lambda y=y: hlm.fit(data.formula, data.frame.assign(y=y), **data.options))
        for y in Y
    ]
    return compare(fits, alone)


def check_replicates(parts: list[Data], formula: str, reml: bool) -> str:
    """The same for data sets one below the other."""
    frames = [part.frame.assign(rep=i) for i, part in enumerate(parts)]
    whole = pd.concat(frames, ignore_index=True)
    fits = quietly(lambda: hlm.fit_many(formula, whole, by="rep", reml=reml))
    if isinstance(fits, hlm.JaxhlmError):
        return type(fits).__name__
    return compare(fits, [quietly(lambda p=p: hlm.fit(formula, p, reml)) for p in frames])


def compare(fits: Any, alone: list[Any]) -> str:
    """Compare lanes with their fits alone."""
    found = numbers(fits)
    for i, one in enumerate(alone):
        lane = {name: values[i] for name, values in found.items()}
        ok = bool(fits.ok[i])
        absent = np.isnan(lane["fixef"])
        for name in ("criterion", "sigma", "theta", "cov"):
            assert np.isfinite(lane[name]).all() == (ok or fits.status[i] == 2), (i, name)
        assert (np.isnan(lane["se"]) == absent).all(), i
        assert ok or fits.status[i] == 2 or absent.all(), i
        if isinstance(one, hlm.JaxhlmError):
            assert not ok, f"lane {i}: {hlm.Status(fits.status[i]).name}, alone {one}"
        elif ok and one.status.ok and len(one.fixef) <= len(absent):
            # A column that all rows together lack may be one that some rows have.
            same(one, lane, ~absent)
    return "equal" if fits.ok.any() else "all failed"


def same(one: Any, lane: dict[str, Any], present: Any) -> None:
    """The same estimates; a coefficient that a lane lacks is not in its fit alone."""
    expected = numbers(one)
    size = max(1.0, abs(float(expected["criterion"])))
    np.testing.assert_allclose(lane["criterion"], expected["criterion"], atol=tol.CRITERION * size)
    if present.sum() == len(expected["fixef"]):
        moved = (lane["fixef"][present] - expected["fixef"]) / expected["se"]
        np.testing.assert_allclose(moved, 0.0, atol=tol.LOSSY)
    np.testing.assert_allclose(lane["sigma"], expected["sigma"], rtol=tol.LOSSY)
