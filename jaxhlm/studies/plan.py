"""A planned study in words, as a protocol states it: design, truth, analysis, test."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxhlm.core.document import Grid, filled
from jaxhlm.core.notation import Floats
from jaxhlm.core.versions import versions
from jaxhlm.design.design import Design
from jaxhlm.errors import OneDrawWarning, OptionError, warn_user
from jaxhlm.inference.contrast_tests import METHOD_NAMES, DfMethod
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.mechanism import Mechanism
from jaxhlm.studies.truth import Standardizer, Truth, standardizer
from jaxhlm.studies.uncertainty import TruthSource
from jaxhlm.studies.unit_words import Members

__all__ = [
    "Plan",
    "effect_in_words",
    "failures_in_words",
    "hypothesis_in_words",
    "page",
    "plan_of",
    "power_in_words",
    "seed_in_words",
    "warn_of_one_draw",
]

INDENT = 10  # columns of the headings


class Plan(NamedTuple):
    """What data sets are drawn from, and how they are analysed."""

    design: str
    truth: str
    analysis: str
    draws: str


def plan_of(
    mechanism: Mechanism | tuple[Design, Truth], formula: str | None, reml: bool, n: int, seed: int
) -> Plan:
    """What is simulated, in words.

    Args:
        mechanism: what generates the data sets.
        formula: the model that is fitted; None for the one that generates.
        reml: how.
        n: number of data sets.
        seed: int that gives them.
    """
    violated = ""
    truth: Truth | TruthSource
    if isinstance(mechanism, tuple):
        generating, truth = mechanism
        source: object = generating
    else:
        generating, truth, source = mechanism.template, mechanism.truth, mechanism.source
        violated = "".join(f" Violated: {v}." for v in mechanism.violations)
    if isinstance(source, UnitDesign):
        design = source.in_words + _one_draw_in_words(source)
    else:
        units = f"{generating.G:,} units ({generating.group_name})"
        design = f"{generating.n:,} rows in {units}, the same in every data set."
        if isinstance(source, pd.DataFrame):
            design += _members_in_words(source, generating)
    parameters = "all parameters drawn anew for every data set"
    if isinstance(truth, Truth):
        parameters = str(_named(truth, generating))
    model = "the model that generates it" if formula is None else formula
    method = "restricted maximum likelihood (REML)" if reml else "maximum likelihood"
    return Plan(
        design,
        f"{generating.formula} with {parameters}.{violated}",
        f"Each data set is fitted with {model} by {method}.",
        f"{seed_in_words(n, seed)}.",
    )


def seed_in_words(n: int, seed: int) -> str:
    """Where the same data sets come from."""
    version = versions(("jaxhlm",))["jaxhlm"]
    return f"{n:,} data sets are drawn with seed={seed} by jaxhlm {version}"


def warn_of_one_draw(mechanism: object) -> None:
    """Warn where power is that of one draw of a design."""
    source = getattr(mechanism, "source", None)
    if not isinstance(source, UnitDesign) or not source.drawn_once:
        return
    warn_user(
        f"the power is that of one draw of {', '.join(source.drawn_once)}: another draw gives "
        "another power, and another size that a target needs; write redraw=True in jaxhlm.units "
        "for a design that is drawn anew for every data set",
        OneDrawWarning,
    )


def _one_draw_in_words(design: UnitDesign) -> str:
    """What a protocol is to say of a design that is drawn once."""
    if not design.drawn_once:
        return ""
    return " Another draw gives another power: redraw=True draws anew for every data set."


def _members_in_words(frame: pd.DataFrame, design: Design) -> str:
    """How many units belong to the levels of factors that do not change within units."""
    levels, codes = {}, {}
    for name, known in design._factors.items():
        if known is not None and name in frame and name != design.group_name:
            of_rows = known.get_indexer(pd.Index(frame[name], dtype=object))
            of_units = of_rows[np.unique(design.group, return_index=True)[1]]
            if (of_rows >= 0).all() and (of_units[design.group] == of_rows).all():
                levels[name], codes[name] = list(known), of_units
    return f" Units belong to {Members(levels, codes)}." if codes else ""


def _named(truth: Truth, design: Design) -> Truth:
    """The truth with its effects by term."""
    names = design.xnames
    return replace(truth, beta=dict(zip(names, truth.fixed(names).tolist(), strict=True)))


def hypothesis_in_words(label: str, L: Floats, alpha: float, df: DfMethod) -> str:
    """A hypothesis and how it is tested.

    Args:
        label: the hypothesis as it was written.
        L: (r, p) its contrasts.
        alpha: level of the test.
        df: method of its degrees of freedom.

    Example:
        >>> import numpy as np
        >>> hypothesis_in_words("x:a", np.zeros((1, 4)), 0.05, "normal")
        'x:a = 0, by a two-sided z test at the level 0.05.'
    """
    letters, by = ("t", "F"), f" ({METHOD_NAMES[df]})"
    if df == "normal":
        letters, by = ("z", "χ²"), ""
    one, several = letters
    kind = f"two-sided {one} test" if len(L) == 1 else f"joint {several} test of {len(L)} contrasts"
    null = label if "=" in label else f"{label} = 0"
    return f"{null}, by a {kind} at the level {alpha:g}{by}."


def effect_in_words(
    L: Floats, rhs: Floats, known: tuple[Design, Truth | TruthSource] | None
) -> str:
    """What a contrast is in truth, and as Cohen's d by every standard deviation that there is.

    Args:
        L, rhs: (r, p) and (r,), the hypothesis Lβ = rhs.
        known: design and truth of the model that is fitted, if it is the one that generates.

    Returns:
        "" of several contrasts, and where there is no one truth of them.
    """
    design, truth = known or (None, None)
    if design is None or len(L) > 1 or not isinstance(truth, Truth):
        return ""
    value = float((L @ truth.fixed(design.xnames))[0])
    named: dict[Standardizer, str] = {
        "within": "the residual sd", "between": "that of units", "total": "the total sd",
    }  # fmt: skip
    told = []
    for d_sd, name in named.items():
        with contextlib.suppress(OptionError):  # where that deviation is 0, or not there
            d = (value - float(rhs[0])) / standardizer(d_sd, truth.cov, truth.sigma, design.znames)
            told.append(f"{d:.3g} by {name}")
    sizes = f"; Cohen's d {', '.join(told)}" if told else ""
    return f" In truth it is {value:.4g}{sizes}."


def power_in_words(row: pd.Series, level: float, redrawn: bool) -> str:
    """Power, its error, and where it comes from; by formula on one draw of ``redrawn`` designs."""
    text = (
        f"{row['power']:.4f} (exact {100 * level:g} % interval {row['conf_low']:.4f} to "
        f"{row['conf_high']:.4f}, Monte-Carlo standard error {row['mcse']:.4f}): "
        f"{row['rejected']:,} of {row['n'] - row['failed']:,} tests reject."
    )
    if np.isfinite(row["analytic"]):
        on = ", on one draw of the design" * redrawn
        text += f" By formula{on}, approximately: {row['analytic']:.4f}."
    return text


def failures_in_words(row: pd.Series) -> str:
    """Fits without a test, and those at the boundary."""
    text = f"{row['failed']:,} of {row['n']:,} data sets have no test"
    if row["failed"]:
        text += f"; if they count as no rejection, the power is {row['power_all']:.4f}"
    return f"{text}. {row['singular']:,} fits are singular."


def page(paragraphs: Sequence[tuple[str, str]]) -> Grid:
    """Paragraphs with headings on their left.

    >>> print(page([("Design", "Six units."), ("Power", "0.8.")]))
    Design    Six units.
    Power     0.8.
    """
    plain = "\n".join(
        filled(text, " " * INDENT, f"{heading:<{INDENT}}") for heading, text in paragraphs
    )
    headings, texts = zip(*paragraphs, strict=True)
    return Grid([""], [[text] for text in texts], headings, "left", plain=plain)
