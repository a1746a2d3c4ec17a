"""What was fitted, apart from data and estimates: the names that label every table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxhlm.design.design import Design
from jaxhlm.estimation.hypotheses import Contrasts, Hypothesis, read_hypothesis
from jaxhlm.likelihood.covariance import theta_index
from jaxhlm.likelihood.random_term import RandomTerm, WithTerms

__all__ = ["Model"]


@dataclass(frozen=True)
class Model(WithTerms):
    """A model's formula, method and labels.

    Attributes:
        formula: the formula as written.
        reml: REML, or maximum likelihood.
        response_name: name of the response.
        xnames: names of the p fixed effects.
        terms: the random terms.
        dropped: names of the columns that X lost to rank deficiency.
        alias: p rows of what these columns are in terms of the others.
    """

    formula: str
    reml: bool
    response_name: str
    xnames: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    dropped: tuple[str, ...] = ()
    alias: tuple[tuple[float, ...], ...] = ()

    @staticmethod
    def of(design: Design, reml: bool) -> Model:
        """The model of a design."""
        return Model(
            design.formula,
            reml,
            design.response_name,
            design.xnames,
            design.terms,
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
        z = self.znames
        return tuple(
            f"{term.group}.{z[row]}" if row == column else f"{term.group}.{z[row]}.{z[column]}"
            for term in self.terms
            for row, column in term.entries
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
        """The model that ``to_json`` wrote, of this version or an earlier one.

        Raises:
            OptionError: a covariance structure is not known.
        """
        record = json.loads(text)
        terms = record.pop("terms", None) or _terms_of_blocks(record)
        for name in ("xnames", "dropped"):
            record[name] = tuple(record[name])
        record["alias"] = tuple(map(tuple, record["alias"]))
        return Model(**record, terms=tuple(map(_term, terms)))


def _terms_of_blocks(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Random terms from what earlier versions wrote in their place, which is taken out."""
    group, z = record.pop("group_name"), record.pop("znames")
    return [
        {"group": group, "columns": block, "names": [z[j] for j in block]}
        for block in record.pop("blocks")
    ]


def _term(record: dict[str, Any]) -> RandomTerm:
    lists = {name: tuple(record[name]) for name in ("columns", "names")}
    return RandomTerm(**record | lists)
