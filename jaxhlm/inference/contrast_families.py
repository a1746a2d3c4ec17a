"""Families of contrasts of means, under the names that R's emmeans gives them.

A family has a row of coefficients for every contrast of k means, whose labels name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import real_array
from jaxhlm.core.notation import Floats, check_option
from jaxhlm.errors import ContrastError, OptionError
from jaxhlm.language.linear import without_rounding

__all__ = [
    "DEFAULT_ADJUSTMENT",
    "ContrastFamily",
    "Contrasted",
    "contrast_family",
    "contrast_products",
    "contrasts_of",
]

ContrastFamily = Literal[
    "pairwise", "revpairwise", "trt.vs.ctrl", "trt.vs.ctrlk", "consec", "poly", "eff", "del.eff",
    "mean_chg", "identity",
]  # fmt: skip
Contrasted: TypeAlias = str | Mapping[str, Any] | pd.DataFrame | Sequence[Sequence[float]] | Floats
# By emmeans, whose "dunnettx" approximates what "mvt" has for comparisons with a control.
DEFAULT_ADJUSTMENT = {
    "pairwise": "tukey",
    "revpairwise": "tukey",
    "trt.vs.ctrl": "mvt",
    "trt.vs.ctrlk": "mvt",
    "consec": "mvt",
    "mean_chg": "mvt",
    "eff": "fdr",
    "del.eff": "fdr",
}
DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")
NEARLY_WHOLE = 0.05

Named: TypeAlias = tuple[list[str], Floats]


def contrast_family(given: Contrasted, labels: Sequence[str], argument: str = "contrasts") -> Named:
    """Names and coefficients (r, k) of a family of contrasts of k means.

    Args:
        given: "pairwise" (a - b), "revpairwise" (b - a), "trt.vs.ctrl" (others less the first,
            with "k" the last), "consec" (each less the one before), "poly" (orthogonal
            polynomials, in whole numbers), "eff" (each less the mean of all), "del.eff" (of the
            others), "mean_chg" (mean after less mean before), "identity"; a mapping from names to
            k coefficients, or to mappings from labels to coefficients; a DataFrame with labels as
            columns; or an array (r, k).
        labels: k names of the means.
        argument: what it was given as, for messages.

    Raises:
        OptionError: an unknown name.
        ContrastError: coefficients that are no finite numbers, too few or all zero; one mean only.

    Example:
        >>> names, C = contrast_family("poly", ["8", "10", "12"])
        >>> names, C.tolist()
        (['linear', 'quadratic'], [[-1.0, 0.0, 1.0], [1.0, -2.0, 1.0]])
        >>> contrast_family("eff", ["p", "q"])[0]
        ['p effect', 'q effect']
    """
    if isinstance(given, str):
        check_option(argument, given, ContrastFamily)
        if len(labels) == 1 and given != "identity":
            raise ContrastError(f"{argument}={given!r}: there is one cell only, and no difference")
        return _FAMILIES[given](labels)
    return _custom(given, labels)


def contrast_products(families: Sequence[Floats]) -> Floats:
    """All products of rows of families (r, k), those of the first family varying fastest."""
    found: Any = np.eye(1)
    for rows in families:
        found = np.kron(rows, found)
    return np.asarray(found, dtype=float)


def contrasts_of(C: Floats, L: Floats) -> Floats:
    """C L (…, r, p) of contrasts C (r, k) of the rows of L (…, k, p).

    What is nothing but rounding is zero, or it would be tested as if it were an effect: an effect
    that the model does not have, such as an interaction without its term, has coefficients 1/3 +
    1/3 − 2/3.
    """
    return without_rounding(C @ L, np.abs(C) @ np.abs(L))


def _pairwise(labels: Sequence[str]) -> Named:
    pairs = list(combinations(range(len(labels)), 2))
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    identity = np.eye(len(labels))
    return [f"{labels[i]} - {labels[j]}" for i, j in pairs], identity[first] - identity[second]


def _reversed_pairs(labels: Sequence[str]) -> Named:
    pairs = [(j, i) for j in range(len(labels)) for i in range(j)]
    identity = np.eye(len(labels))
    rows = np.stack([identity[j] - identity[i] for j, i in pairs])
    return [f"{labels[j]} - {labels[i]}" for j, i in pairs], rows


def _against(reference: int) -> Callable[[Sequence[str]], Named]:
    def family(labels: Sequence[str]) -> Named:
        control = range(len(labels))[reference]
        others = [i for i in range(len(labels)) if i != control]
        identity = np.eye(len(labels))
        names = [f"{labels[i]} - {labels[control]}" for i in others]
        return names, identity[others] - identity[control]

    return family


def _consecutive(labels: Sequence[str]) -> Named:
    names = [f"{b} - {a}" for a, b in pairwise(labels)]
    return names, np.diff(np.eye(len(labels)), axis=0)


def _polynomial(labels: Sequence[str]) -> Named:
    k = len(labels)
    x = np.arange(k) - 0.5 * (k - 1)
    degrees = min(len(DEGREES), k - 1)
    Q = np.linalg.qr(np.vander(x / x[-1], degrees + 1, increasing=True))[0][:, 1:]
    Q = Q * np.where(Q[-1] < 0.0, -1.0, 1.0)
    return list(DEGREES[:degrees]), np.stack([_whole(column) for column in Q.T])


def _whole(coefficients: Floats) -> Floats:
    """Multiples of orthonormal coefficients that are whole numbers, found as emmeans does."""
    found = coefficients / coefficients[coefficients > 0.01].min()
    off = np.abs(found - np.round(found)).max()
    while off > NEARLY_WHOLE:
        found = found / off
        off = np.abs(found - np.round(found)).max()
    return np.asarray(np.round(found) + 0.0, dtype=float)


def _effects(labels: Sequence[str]) -> Named:
    k = len(labels)
    return [f"{label} effect" for label in labels], np.eye(k) - 1.0 / k


def _effects_of_others(labels: Sequence[str]) -> Named:
    names, rows = _effects(labels)
    return names, rows / np.diagonal(rows)[:, None]


def _mean_changes(labels: Sequence[str]) -> Named:
    k, steps = len(labels), range(1, len(labels))
    rows = np.stack([np.r_[np.full(i, -1.0 / i), np.full(k - i, 1.0 / (k - i))] for i in steps])
    return [f"{labels[i - 1]}|{labels[i]}" for i in steps], rows


_FAMILIES: dict[str, Callable[[Sequence[str]], Named]] = {
    "pairwise": _pairwise,
    "revpairwise": _reversed_pairs,
    "trt.vs.ctrl": _against(0),
    "trt.vs.ctrlk": _against(-1),
    "consec": _consecutive,
    "poly": _polynomial,
    "eff": _effects,
    "del.eff": _effects_of_others,
    "mean_chg": _mean_changes,
    "identity": lambda labels: (list(labels), np.eye(len(labels))),
}


def _custom(given: Any, labels: Sequence[str]) -> Named:
    if isinstance(given, pd.DataFrame):
        given = {str(name): row.to_dict() for name, row in given.iterrows()}
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        rows = real_array("contrasts", given, ContrastError)
        rows = rows[None] if rows.ndim == 1 else rows
        names = [f"C{i + 1}" for i in range(len(rows))] if rows.ndim == 2 else []
        return names, _checked(rows, names, labels)
    names = [str(name) for name in given]
    written = [_row(str(name), row, labels) for name, row in given.items()]
    if len({len(row) for row in written}) != 1:
        raise _wrong_number(labels)
    return names, _checked(np.stack(written), names, labels)


def _row(name: str, row: Any, labels: Sequence[str]) -> Floats:
    if isinstance(row, Mapping):
        unknown = [cell for cell in row if str(cell) not in labels]
        if unknown:
            raise ContrastError(
                f"contrast {name!r} names the cell {unknown[0]!r}; the cells are: "
                + ", ".join(map(repr, labels))
            )
        known = {str(cell): value for cell, value in row.items()}
        row = [known.get(label, 0.0) for label in labels]
    found = real_array(f"contrasts[{name!r}]", row, ContrastError)
    if found.ndim != 1:
        raise _wrong_number(labels)
    return found


def _checked(rows: Floats, names: Sequence[str], labels: Sequence[str]) -> Floats:
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != len(labels):
        raise _wrong_number(labels)
    if not np.isfinite(rows).all() or (rows == 0.0).all(axis=1).any():
        raise ContrastError("contrasts must hold finite numbers that are not all zero")
    if len(set(names)) < len(names):
        raise OptionError("two contrasts have the same name: rename one")
    return rows


def _wrong_number(labels: Sequence[str]) -> ContrastError:
    return ContrastError(
        f"contrasts need {len(labels)} coefficients each, one for every cell ("
        + ", ".join(map(str, labels[:6]))
        + ("…)" if len(labels) > 6 else ")")
        + f"; or use one of {', '.join(map(repr, get_args(ContrastFamily)))}"
    )
