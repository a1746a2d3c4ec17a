"""Expressions that Python itself evaluates, where the caller has said that it may.

What such an expression computes in a row must follow from that row: it is evaluated on every other
row as well, in another order, and refused where that gives other numbers.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.core.scopes import within
from jaxhlm.errors import FormulaError
from jaxhlm.language.nodes import Expression, Opaque
from jaxhlm.language.words import excerpt

__all__ = ["allowed", "allowing", "python_value", "read_python"]

_ALLOWED: ContextVar[bool] = ContextVar("unsafe_formula", default=False)
_KNOWN = {"np": np, "pd": pd, "I": lambda value: value}


def allowing(unsafe_formula: bool) -> AbstractContextManager[None]:
    """Let formulas that are read within run as Python code, if ``unsafe_formula``."""
    return within(_ALLOWED, unsafe_formula)


def allowed() -> bool:
    """Whether formulas may run."""
    return _ALLOWED.get()


def read_python(source: str) -> Expression:
    """An expression that is Python code.

    Raises:
        FormulaError: Python cannot read it either.

    Example:
        >>> read_python("x.clip(0, limit) + np.abs(z)").variables
        ('x', 'limit', 'z')
    """
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise FormulaError(f"cannot read '{excerpt(source)}': {error}") from None
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    stored = {n.id for n in used if isinstance(n.ctx, ast.Store)}
    other = bound | stored | {*_KNOWN} | {*dir(builtins)}
    found = (n for n in used if n.id not in other)
    names = sorted(found, key=lambda name: (name.lineno, name.col_offset))
    variables = tuple(dict.fromkeys(name.id for name in names))
    text = ast.unparse(tree)
    return Expression(Opaque(text, variables), text, variables)


def python_value(node: Opaque, columns: Mapping[str, pd.Series], check: bool) -> Floats | Bools:
    """The (n,) numbers or truth values of an expression.

    Args:
        node: the expression.
        columns: (n,) its columns.
        check: whether to make sure that each row's value follows from that row.

    Raises:
        FormulaError: it raises an error, gives something else, or depends on the rows as a whole.
    """
    values = _run(node, columns)
    some = np.arange(len(values))[::-2]
    if check and len(some) < len(values):
        again = _run(node, {k: v.iloc[some].reset_index(drop=True) for k, v in columns.items()})
        if not np.array_equal(again, values[some], equal_nan=values.dtype.kind == "f"):
            raise FormulaError(
                f"'{excerpt(node.text)}' depends on the rows as a whole, so that it would mean "
                "something else in new data: compute it as a column of the data first"
            )
    return values


def _run(node: Opaque, columns: Mapping[str, pd.Series]) -> Floats | Bools:
    rows = len(next(iter(columns.values())))
    try:
        found = eval(node.text, {**_KNOWN, **columns})
        values = np.asarray(found)
    except Exception as error:
        raise FormulaError(
            f"'{excerpt(node.text)}' raised {type(error).__name__}: {error}"
        ) from error
    if values.shape != (rows,) or values.dtype.kind not in "biuf":
        raise FormulaError(
            f"'{excerpt(node.text)}' gives {values.dtype} of shape {values.shape}; {rows} numbers "
            "or truth values are needed"
        )
    return values if values.dtype.kind == "b" else values.astype(float)
