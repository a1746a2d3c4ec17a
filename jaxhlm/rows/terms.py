"""The sides of a formula evaluated by formulaic, and again for new data with what they learned."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula, ModelSpec
from formulaic.errors import DataMismatchWarning
from formulaic.materializers import PandasMaterializer
from formulaic.parser.types import Factor

from jaxhlm.errors import FormulaError, IdentifiabilityError, NewLevelError, NotNumericError
from jaxhlm.formula import ParsedFormula, lme4_name, rhs_variables
from jaxhlm.notation import Floats
from jaxhlm.rows.columns import listed, prepare_new, require_finite

__all__ = [
    "Part",
    "check_levels",
    "covariance_blocks",
    "evaluate_new",
    "evaluate_numbers",
    "fit_part",
    "response_part",
]


@dataclass(frozen=True)
class Part:
    """One right side: its fitted formulaic spec, the columns it reads, the names it makes."""

    spec: ModelSpec
    variables: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def stateful(self) -> tuple[str, ...]:
        """The transforms that learned something from the rows, such as ``center(x)``."""
        return tuple(str(name) for name, state in self.spec.transform_state.items() if state)

    @property
    def coded(self) -> tuple[str, ...]:
        """The variables that enter as factors, also numbers inside ``C()``."""
        states = self.spec.encoder_state.items()
        factors = [str(expr) for expr, (kind, _) in states if kind is Factor.Kind.CATEGORICAL]
        return tuple(v for v in self.variables if any(v in rhs_variables(f) for f in factors))


class _Materializer(PandasMaterializer):
    """Formulaic's evaluation, but whatever is boolean or text is a factor, as in R."""

    REGISTER_NAME = "jaxhlm"
    REGISTER_INPUTS: Sequence[str] = ()

    @PandasMaterializer.override
    def _is_categorical(self, values: Any) -> bool:
        kind = getattr(getattr(values, "dtype", None), "kind", None)
        return kind in ("b", "O", "S", "U") or bool(super()._is_categorical(values))


def fit_part(side: str, frame: pd.DataFrame, labels: pd.Index) -> tuple[Part, Floats]:
    """Evaluate a right side for the first time: the spec returned holds what it learned."""
    blank = ModelSpec.from_spec(
        Formula(side), materializer=_Materializer, output="numpy", na_action="ignore"
    )
    matrix, spec = _evaluate(blank, frame)
    # Levels of integer columns became floats in `prepare`: C(week)[T.2.0] is C(week)[T.2].
    coded = [re.sub(r"\[(T\.)?(-?\d+)\.0\]", r"[\1\2]", name) for name in spec.column_names]
    used = tuple(name for name in rhs_variables(side) if name in frame)
    part = Part(spec, used, tuple(map(lme4_name, coded)))
    require_finite(matrix, part.names, labels)
    return part, matrix


def _evaluate(spec: ModelSpec, frame: pd.DataFrame) -> tuple[Floats, ModelSpec]:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", DataMismatchWarning)
            made = spec.get_model_matrix(frame)
    except DataMismatchWarning as warning:
        raise _new_level(spec, str(warning)) from None
    except Exception as error:
        raise FormulaError(f"cannot evaluate '{spec.formula}': {error}") from error
    return np.asarray(made, dtype=np.float64), made.model_spec


def _new_level(spec: ModelSpec, warning: str) -> NewLevelError:
    # Factors that are plain columns have been compared with their levels before.
    factors = [f"'{expr}'" for expr in _levels(spec) if not expr.isidentifier()]
    unseen = re.sub(r"np\.\w+\(([^()]*)\)", r"\1", ", ".join(re.findall(r"\{.*\}", warning)))
    return NewLevelError(
        f"levels outside those of the fit (or of levels=) in {' or '.join(factors) or spec.formula}"
        f": {unseen}; leave such rows out, or fit again with rows or levels= that include them"
    )


def _levels(spec: ModelSpec) -> dict[str, list[Any]]:
    """The levels of every factor of a fitted spec."""
    kinds = spec.encoder_state.items()
    return {
        expr: list(state["categories"])
        for expr, (kind, state) in kinds
        if kind is Factor.Kind.CATEGORICAL
    }


def check_levels(part: Part) -> None:
    """Refuse a factor with a single level, of which formulaic would silently make no column."""
    for expr, levels in _levels(part.spec).items():
        if len(levels) == 1:
            raise IdentifiabilityError(
                f"factor '{expr}' has one level only, {listed(levels)}: contrasts need two or "
                "more, so leave it out of the formula"
            )


def evaluate_new(part: Part, raw: pd.DataFrame, factors: dict[str, pd.Index | None]) -> Floats:
    """(m, columns) of a part for new data, NaN in the rows that lack one of its variables."""
    raw = raw[list(part.variables)]
    known = raw.notna().all(axis=1).to_numpy()
    out = np.full((len(raw), len(part.names)), np.nan)
    if known.any():
        labels, whole = raw.index[known], raw[known].reset_index(drop=True)
        ready = {v: prepare_new(whole[v], labels, factors[v]) for v in whole.columns}
        out[known], _ = _evaluate(part.spec, pd.DataFrame(ready, index=whole.index))
        require_finite(out[known], part.names, labels)
    return out


def evaluate_numbers(part: Part, columns: dict[str, Floats]) -> Floats:
    """(n, columns) of a part that reads numbers only, whatever is not finite let through.

    Columns lie one after the other in memory. Products of variables are multiplied here: formulaic
    would spend most of the time of a batch on putting them into frames.

    Args:
        part: a part whose variables are numbers.
        columns: (n,) values, none missing, of at least its variables.
    """
    factors = [term.term.factors for term in part.spec.structure]
    if not all(f.expr in columns or f.expr == "1" for term in factors for f in term):
        return np.asfortranarray(_evaluate(part.spec, pd.DataFrame(columns, copy=False))[0])
    out = np.ones((len(factors), len(next(iter(columns.values())))))
    for column, term in zip(out, factors, strict=True):
        for factor in term:
            if factor.expr in columns:
                column *= columns[factor.expr]
    return out.T


def response_part(response: str, frame: pd.DataFrame, labels: pd.Index) -> tuple[Part, Floats]:
    """The left side, which must be one numeric column, and its (n,) values."""
    part, values = fit_part(f"0 + {{{response}}}", frame, labels)
    if any(kind is not Factor.Kind.NUMERICAL for kind, _ in part.spec.encoder_state.values()):
        raise NotNumericError(
            f"the response '{response}' must be numeric, it is a factor; convert it to numbers"
        )
    if values.shape[1] != 1:
        raise FormulaError(f"the response '{response}' gives {values.shape[1]} columns, not one")
    return part, values[:, 0]


def covariance_blocks(
    parsed: ParsedFormula, columns: Sequence[Floats]
) -> tuple[tuple[int, ...], ...]:
    """The covariance blocks over the columns of Z: one per term, one per column under ``||``."""
    blocks: list[tuple[int, ...]] = []
    start = 0
    for term, made in zip(parsed.random, columns, strict=True):
        if made.shape[1] == 0:
            raise FormulaError(f"the random term ({term.expr} | ...) has no column")
        block = tuple(range(start, start + made.shape[1]))
        blocks.extend([(j,) for j in block] if term.diagonal else [block])
        start += made.shape[1]
    return tuple(blocks)
