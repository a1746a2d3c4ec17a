"""``Means``: which marginal means and trends, or contrasts of them, are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jaxhlm.core.arguments import check_flag, check_mapping
from jaxhlm.core.notation import NotEstimable, check_option
from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_families import DEFAULT_ADJUSTMENT, Contrasted
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.family_adjustment import FamilyAdjustment
from jaxhlm.inference.refgrid import CellWeights, cell_variables
from jaxhlm.results.means_formula import OVERALL

__all__ = ["Families", "Means", "means_wanted"]

Families: TypeAlias = str | Sequence[str] | Mapping[str, Contrasted]

# What adjusts limits by a rule of its own.
WITH_LIMITS = ("none", "bonferroni", "sidak", "mvt")
PAIRS = ("pairwise", "revpairwise")


@dataclass(frozen=True)
class Means:
    """Which means, or contrasts of means, are asked for; arguments as of ``Fit.emmeans``.

    Attributes:
        specs: variables whose combinations are the cells.
        by: variables in whose combinations the cells are set apart.
        at: values of some variables.
        df: method.
        contrasts: family of contrasts of the cells within each combination of ``by``.
        interaction: families for each of ``specs``, whose products are the contrasts.
        adjust: for the number of tests within each combination of ``by``.
        weights: of the cells that are averaged over.
        conf_level: of the intervals.
        not_estimable: "nan" or "error".
        trend: a number whose slope is meant, in place of the mean.
        pairwise: all pairs, with p values by Holm and by Tukey side by side.
    """

    specs: Sequence[str]
    by: Sequence[str]
    at: Mapping[str, Any]
    df: DfMethod
    contrasts: Contrasted | None
    interaction: Mapping[str, Contrasted] | None
    adjust: FamilyAdjustment | None
    weights: CellWeights
    conf_level: float
    not_estimable: NotEstimable
    trend: str | None = None
    pairwise: bool = False

    @property
    def what(self) -> str:
        """What the rows are, for messages."""
        kind = "trends" if self.trend else "marginal means"
        return f"differences of {kind}" if self.differs else kind

    @property
    def differs(self) -> bool:
        """Whether rows are contrasts of means."""
        return self.pairwise or self.contrasts is not None or self.interaction is not None

    @property
    def adjustment(self) -> FamilyAdjustment:
        """How tests and limits are adjusted.

        Raises:
            OptionError: it does not go with these rows.
        """
        named = self.contrasts if isinstance(self.contrasts, str) else ""
        if self.adjust is None:
            return DEFAULT_ADJUSTMENT.get(named, "none")  # type: ignore[return-value]
        check_option("adjust", self.adjust, FamilyAdjustment)
        if self.pairwise:
            raise OptionError(
                f"adjust={self.adjust!r}: pairwise=True has p_holm and p_tukey side by side; give "
                'contrasts="pairwise" to have one adjustment, of limits too'
            )
        if self.adjust == "tukey" and named not in PAIRS:
            raise OptionError(
                'adjust="tukey" is for all pairs of means, contrasts="pairwise"; use "mvt" for '
                "other families"
            )
        if not self.differs and self.adjust not in WITH_LIMITS:
            raise OptionError(
                f"adjust={self.adjust!r} is for tests, and means have limits only: use one of "
                + ", ".join(map(repr, WITH_LIMITS))
            )
        return self.adjust


def means_wanted(
    specs: str | Sequence[str] | None,
    at: Mapping[str, Any] | None,
    df: DfMethod,
    *,
    by: str | Sequence[str] | None,
    contrasts: Contrasted | None,
    interaction: Families | None,
    adjust: FamilyAdjustment | None,
    weights: CellWeights,
    conf_level: float,
    not_estimable: NotEstimable,
    trend: str | None = None,
    pairwise: bool = False,
) -> Means:
    """What the arguments of ``Fit.emmeans`` and ``Fit.emtrends`` ask for.

    Raises:
        OptionError: they do not go together.
    """
    check_flag("pairwise", pairwise)
    check_option("weights", weights, CellWeights)
    check_level(conf_level, "conf_level")
    whole = specs is OVERALL or (specs is None and trend is not None)
    chosen = [] if whole else cell_variables(specs)
    within = [] if by is None else cell_variables(by, "by")
    both = [name for name in within if name in chosen]
    if both:
        raise OptionError(f"by={by!r}: {both[0]!r} is one of the cells already")
    given = {"pairwise": pairwise, "contrasts": contrasts is not None}
    given["interaction"] = interaction is not None
    if sum(given.values()) > 1:
        names = " and ".join(name for name, is_given in given.items() if is_given)
        raise OptionError(f"{names} say different things: give one of them")
    families = None if interaction is None else _by_variable(interaction, chosen)
    return Means(
        chosen, within, {} if at is None else check_mapping("at", at), df, contrasts, families,
        adjust, weights, conf_level, not_estimable, trend, pairwise,
    )  # fmt: skip


def _by_variable(given: Families, specs: Sequence[str]) -> dict[str, Contrasted]:
    """The family of each variable of the cells."""
    if not specs:
        raise OptionError("interaction= is of the variables of specs, and there are none")
    if isinstance(given, str):
        return dict.fromkeys(specs, given)
    if isinstance(given, Mapping):
        if sorted(map(str, given)) != sorted(specs):
            raise OptionError(
                f"interaction must have a family for each of {', '.join(map(repr, specs))}"
            )
        return {name: given[name] for name in specs}
    if not np.iterable(given) or len(given) != len(specs):
        raise OptionError(
            f"interaction={given!r} must be one family, or one for each of "
            + ", ".join(map(repr, specs))
        )
    return dict(zip(specs, given, strict=True))
