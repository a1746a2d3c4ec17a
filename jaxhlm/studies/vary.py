"""One thing about a mechanism changed: a sample size, an effect, a standard deviation."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import number, whole_number
from jaxhlm.design.design import Design
from jaxhlm.errors import GroupingError, IdentifiabilityError, OptionError, UnknownTermError
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.extend import extend
from jaxhlm.studies.mechanism import Mechanism, assembled
from jaxhlm.studies.truth import Standardizer, Truth

__all__ = ["ALONG", "SIZES", "changed_truth", "check_along", "check_relative", "varied"]

ALONG = '"units", "measurements", "sigma", "corr", "beta[TERM]", "sd[TERM]"'
# What has whole numbers as its values.
SIZES = ("units", "measurements")
_NAMED = re.compile(r"(beta|sd)\[(.+)\]")


def check_along(along: str) -> None:
    """Raise ``OptionError`` unless ``along`` has one of the forms of ``ALONG``.

    >>> check_along("beta[x:a]")
    """
    plain = (*SIZES, "sigma", "corr")
    if not isinstance(along, str) or not (along in plain or _NAMED.fullmatch(along)):
        raise OptionError(f"{along!r} cannot be varied; what can: {ALONG}")


def check_relative(along: str, d_sd: Standardizer | None, partial_r2: bool) -> None:
    """Refuse to vary what effects that were given as d, or as partial R², are relative to.

    Args:
        along: as for ``varied``.
        d_sd: as for ``Truth.of``; None where no effect was given as d.
        partial_r2: whether one was given as partial R².

    Raises:
        OptionError: the effect is made once, so that it would have another d, or partial R².

    >>> check_relative("sigma", d_sd="between", partial_r2=False)
    """
    of_d: dict[Standardizer | None, tuple[str, ...]] = {
        "within": ("sigma",),
        "between": ("sd[(Intercept)]",),
        "total": ("sigma", "sd[(Intercept)]"),
    }
    given = ["d"] * (along in of_d.get(d_sd, ()))
    if partial_r2 and (along in ("sigma", "corr", "measurements") or along.startswith("sd[")):
        given.append("partial R²")
    if given:
        raise OptionError(
            f"effects were given as {' and '.join(given)}, which {along} changes: they are made "
            "once, and would stand for another size at every value; give them in beta"
        )


def varied(m: Mechanism, along: str, value: float) -> Mechanism:
    """The mechanism with one thing set to ``value``; what its terms have learned stays.

    Args:
        m: a mechanism.
        along: "units" (their number), "measurements" (of each unit), "sigma", "corr" (of two random
            effects), "beta[TERM]" or "sd[TERM]".
        value: what to set it to.

    Raises:
        OptionError: it cannot be varied, or not to this value.
        GroupingError, IdentifiabilityError: of so few the model is not identified.
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
    design, truth = m.source, m.truth
    if along in SIZES:
        design = _resized(m, along, value)
    elif isinstance(truth, Truth):
        truth = changed_truth(truth, m.template, along, number(along, value))
    else:
        raise OptionError(f"{along!r} cannot be varied where the truth is a distribution")
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


def _resized(m: Mechanism, along: str, size: float) -> pd.DataFrame | UnitDesign:
    """The design with ``size`` units, or with ``size`` measurements of every unit."""
    given = number(along, size)
    n = whole_number(along, int(given) if given.is_integer() else size)
    resized: pd.DataFrame | UnitDesign
    if isinstance(m.source, UnitDesign):
        if along == "units" and n == 1:
            raise GroupingError("units=1: of one unit there is no variance between units")
        resized = m.source.resized(**{"n" if along == "units" else "measurements": n})
        frame = resized.frame()
    else:
        (group, *more) = m.parsed.group
        if more:
            raise OptionError(f"{along} can be varied where one column names the units")
        name = "along" if along == "units" else "within"
        frame = resized = extend(m.source, **{name: group}, n=n)
    _check_levels(m.template, frame, f"{along}={n}")
    return resized


def _check_levels(design: Design, frame: pd.DataFrame, what: str) -> None:
    """Raise ``IdentifiabilityError`` where a level of a factor has no row left."""
    for name, levels in design._factors.items():
        if levels is not None and name in frame and name != design.group_name:
            lost = levels.difference(pd.Index(frame[name], dtype=object), sort=False)
            if len(lost):
                raise IdentifiabilityError(
                    f"{what}: no row is left of {', '.join(map(repr, lost))} of {name!r}, whose "
                    "effect is not identified without"
                )
