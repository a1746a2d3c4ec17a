"""What was fitted, apart from data and estimates: the names that label every table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from jaxhlm.covariance import Blocks, theta_index
from jaxhlm.design import Design

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
    """

    formula: str
    reml: bool
    response_name: str
    group_name: str
    xnames: tuple[str, ...]
    znames: tuple[str, ...]
    blocks: Blocks

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

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Model:
        """The model that ``to_json`` wrote."""
        record = json.loads(text)
        for name in ("xnames", "znames"):
            record[name] = tuple(record[name])
        record["blocks"] = tuple(map(tuple, record["blocks"]))
        return Model(**record)
