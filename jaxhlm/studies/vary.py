"""One thing about a mechanism changed: a sample size, an effect, a standard deviation."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import number, whole_number
from jaxhlm.design.design import Design, build_design
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.language.formula import parse
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.extend import extend
from jaxhlm.studies.mechanism import Mechanism, assembled
from jaxhlm.studies.truth import Truth

__all__ = [
    "ALONG",
    "changed_truth",
    "check_along",
    "design_of",
    "is_size",
    "rebuilt",
    "resized",
    "varied",
]

ALONG = '"units", "measurements", "sigma", "corr", "beta[TERM]", "sd[TERM]"'
SIZES = ("units", "measurements")
_NAMED = re.compile(r"(beta|sd)\[(.+)\]")


def check_along(along: str) -> None:
    """Raise ``OptionError`` unless ``along`` has one of the forms of ``ALONG``.

    >>> check_along("beta[x:a]")
    """
    plain = (*SIZES, "sigma", "corr")
    if not isinstance(along, str) or not (along in plain or _NAMED.fullmatch(along)):
        raise OptionError(f"{along!r} cannot be varied; what can: {ALONG}")


def is_size(along: str) -> bool:
    """Whether the values are whole numbers.

    >>> is_size("units"), is_size("beta[x]")
    (True, False)
    """
    return along in SIZES


def varied(m: Mechanism, along: str, value: Any) -> Mechanism:
    """The mechanism with one thing set to ``value``.

    Args:
        m: a mechanism.
        along: "units" (their number), "measurements" (of each unit), "sigma", "corr" (of two random
            effects), "beta[TERM]" or "sd[TERM]".
        value: what to set it to.

    Raises:
        OptionError: it cannot be varied, or not to this value.
        UnknownTermError: there is no such term.

    Example:
        >>> import jaxhlm as hlm
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> m = hlm.mechanism("y ~ x * a + (1 + x | unit)", hlm.load_dataset("article"), truth)
        >>> m = varied(varied(m, "units", 12), "beta[x:a]", 0.5)
        >>> len(m.design), float(m.truth.beta["x:a"])
        (360, 0.5)
    """
    check_along(along)
    if is_size(along):
        return rebuilt(m, resized(m, along, value), m.truth)
    if not isinstance(m.truth, Truth):
        raise OptionError(f"{along!r} cannot be varied where the truth is a distribution")
    chosen = number(along, value)
    return rebuilt(m, m.source, changed_truth(m.truth, m.template, along, chosen))


def rebuilt(m: Mechanism, design: Any, truth: Any) -> Mechanism:
    """The mechanism with another design or truth; what its terms have learned stays."""
    return assembled(m.formula, design, truth, m.violations, m.template.learned)


def changed_truth(truth: Truth, design: Design, along: str, value: float) -> Truth:
    """A truth with one parameter set to ``value``; of an sd the correlations stay."""
    if along == "sigma":
        return replace(truth, sigma=value)
    if along == "corr":
        if len(truth.cov) != 2:
            raise OptionError('"corr" is for two random effects')
        off = value * float(np.sqrt(truth.cov[0, 0] * truth.cov[1, 1]))
        return replace(truth, cov=np.where(np.eye(2) > 0.0, truth.cov, off))
    kind, term = _NAMED.fullmatch(along).groups()  # type: ignore[union-attr]
    names = design.xnames if kind == "beta" else design.znames
    if term not in names:
        raise UnknownTermError(
            f"{along}: no such {'fixed' if kind == 'beta' else 'random'} effect; there are "
            + ", ".join(map(repr, names))
        )
    if kind == "beta":
        beta = dict(zip(names, truth.fixed(names).tolist(), strict=True))
        return replace(truth, beta={**beta, term: value})
    if value < 0.0:
        raise OptionError(f"{along}={value!r} must not be negative")
    at = names.index(term)
    old = float(np.sqrt(truth.cov[at, at]))
    if old == 0.0 and value > 0.0:
        raise OptionError(
            f"{along} cannot be scaled from zero, which has no correlations; set up the truth with "
            "a small sd instead"
        )
    scale = np.ones(len(names))
    scale[at] = value / old if old else 0.0
    return replace(truth, cov=truth.cov * np.outer(scale, scale))


def design_of(m: Mechanism, formula: str | None = None) -> Design:
    """The matrices of a formula on the mechanism's design (on one draw of it, if it is redrawn)."""
    if formula is None:
        return m.template
    frame = m.design if isinstance(m.design, pd.DataFrame) else m.design.frame()
    return build_design(formula, frame, response_rows=len(frame), learned=m.template.learned)


def resized(m: Mechanism, along: str, size: Any) -> pd.DataFrame | UnitDesign:
    """The design with ``size`` units, or with ``size`` measurements of every unit."""
    given = number(along, size)
    size = whole_number(along, int(given) if given.is_integer() else size)
    if isinstance(m.source, UnitDesign):
        return m.source.resized(**{"n" if along == "units" else "measurements": size})
    (group, *more) = parse(m.formula, response_optional=True).group
    if more:
        raise OptionError(f"{along} can be varied where one column names the units")
    if along == "units":
        return extend(m.source, along=group, n=size)
    return extend(m.source, within=group, n=size)
