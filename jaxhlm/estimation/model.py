"""What was fitted, apart from data and estimates: the names that label every table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from jaxhlm.design.design import Design
from jaxhlm.estimation.hypotheses import Contrasts, Hypothesis, read_hypothesis
from jaxhlm.likelihood.covariance import Blocks, theta_index

__all__ = ["Model"]


@dataclass(frozen=True)
class Model:
    """A model's formula, method and labels.

    Attributes:
        formula: the formula as written.
        reml: REML, or maximum likelihood.
        response_name, group_name: names of the response and the grouping factor.
        xnames: names of the p fixed effects.
        znames: names of the q random effects.
        blocks: columns of Z in each random term.
        dropped: names of the columns that X lost to rank deficiency.
        alias: p rows of what these columns are in terms of the others.
    """

    formula: str
    reml: bool
    response_name: str
    group_name: str
    xnames: tuple[str, ...]
    znames: tuple[str, ...]
    blocks: Blocks
    dropped: tuple[str, ...] = ()
    alias: tuple[tuple[float, ...], ...] = ()

    @staticmethod
    def of(design: Design, reml: bool) -> Model:
        """The model of a design."""
        return Model(
            design.formula,
            reml,
            design.response_name,
            design.group_name,
            design.xnames,
            design.znames,
            design.blocks,
            design.dropped_columns,
            tuple(map(tuple, design._alias.tolist())) if design.dropped_columns else (),
        )

    @property
    def n_parameters(self) -> int:
        """Fixed effects, entries of θ, and σ: the df of ``lme4::logLik``."""
        return len(self.xnames) + len(theta_index(self.blocks)) + 1

    @property
    def theta_names(self) -> tuple[str, ...]:
        """lme4's names of θ, such as ``unit.x.(Intercept)``."""
        z, group = self.znames, self.group_name
        return tuple(
            f"{group}.{z[row]}" if row == column else f"{group}.{z[row]}.{z[column]}"
            for row, column in theta_index(self.blocks)
        )

    def hypothesis(self, L: Contrasts, rhs: ArrayLike) -> Hypothesis:
        """The rows of Lβ = rhs, written in any of the ways that ``read_hypothesis`` lists."""
        alias = np.array(self.alias, dtype=float).reshape(len(self.xnames), len(self.dropped))
        return read_hypothesis(L, rhs, self.xnames, self.dropped, alias)

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Model:
        """The model that ``to_json`` wrote."""
        record = json.loads(text)
        for name in ("xnames", "znames", "dropped"):
            record[name] = tuple(record[name])
        for name in ("blocks", "alias"):
            record[name] = tuple(map(tuple, record[name]))
        return Model(**record)
