"""Expressions evaluated over columns, with what they learned from the rows that were fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.columns import listed
from jaxhlm.errors import FormulaError, NewLevelError, NonFiniteError
from jaxhlm.language.functions import FUNCTIONS
from jaxhlm.language.nodes import Binary, Call, Column, Node, Number, Opaque, Text, Unary
from jaxhlm.language.opaque import python_value
from jaxhlm.language.words import excerpt

__all__ = ["Factor", "Learned", "columns_of", "evaluate", "level_text"]


@dataclass(frozen=True, eq=False)
class Factor:
    """A column of levels.

    Attributes:
        codes: (n,) position of each row's level.
        levels: the levels, in the order of their coding.
        contrast: (kind, (option, value), …) from ``C``, or None for treatment contrasts.
    """

    codes: Ints
    levels: Sequence[object]
    contrast: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Learned:
    """What expressions learned from the rows that were fitted, by the text of the call.

    Attributes:
        values: means, scales, knots, … of reductions and transforms.
        levels: of comparisons and of ``C``.
        known: values that come from elsewhere, from the fit that a truth is of, and are used where
            a call has this text.
    """

    values: dict[str, Any] = field(default_factory=dict)
    levels: dict[str, list[object]] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)

    def forgotten(self) -> Learned:
        """Without what was learned from rows; levels stay."""
        return Learned({}, self.levels, self.known)


Value: TypeAlias = Floats | Bools | Factor | float
Columns: TypeAlias = Mapping[str, "Floats | Bools | Factor"]


def columns_of(frame: pd.DataFrame) -> dict[str, Floats | Bools | Factor]:
    """The columns of a frame of prepared columns: numbers, truth values and factors."""
    return {str(name): _column(frame[name]) for name in frame}


def _column(column: pd.Series) -> Floats | Bools | Factor:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return Factor(column.cat.codes.to_numpy().astype(np.int64), column.cat.categories.tolist())
    values: Floats | Bools = column.to_numpy()
    return values


def evaluate(
    node: Node, text: str, columns: Columns, rows: int, learned: Learned, learning: bool
) -> Floats | Factor:
    """The value of a term's expression: (n,) numbers, (n, k) columns, or a factor.

    Args:
        node: the expression.
        text: as written, for messages and for what is learned of its truth values.
        columns: (n,) values of at least its variables.
        rows: n.
        learned: filled when ``learning``, else applied.
        learning: whether these are the rows that are fitted.

    Raises:
        FormulaError: it cannot be evaluated on columns of these kinds.
        NewLevelError: a row has a level that was not learned.
    """
    evaluator = _Evaluator(columns, text, learned, learning)
    with np.errstate(all="ignore"):
        try:
            value = evaluator.value(node)
        except RecursionError:
            raise evaluator.error("it is nested too deeply for this call stack") from None
        if isinstance(value, str):
            raise evaluator.error("it is text, not numbers")
        if isinstance(value, Factor):
            return value
        array: npt.NDArray[Any] = np.asarray(value)
        if array.dtype.kind == "b":
            return evaluator.known(text, array)
        return array if array.ndim else np.full(rows, float(array))


@dataclass(frozen=True)
class _Evaluator:
    columns: Columns
    text: str
    learned: Learned
    learning: bool

    def value(self, node: Node) -> Any:
        if isinstance(node, Number):
            return np.float64(node.value)
        if isinstance(node, Text):
            return node.value
        if isinstance(node, Column):
            return self.columns[node.name]
        if isinstance(node, Unary):
            return self._unary(node)
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Opaque):
            return self._python(node)
        return self._call(node)

    def error(self, reason: str) -> FormulaError:
        return FormulaError(f"cannot evaluate '{excerpt(self.text)}': {reason}")

    def numbers(self, node: Node) -> Any:
        """A number or (n,) numbers."""
        value = self.value(node)
        if isinstance(value, Factor):
            name = f"'{node.name}'" if isinstance(node, Column) else "part of it"
            raise self.error(
                f"{name} is a factor; only == and != compare one with a level, and pandas makes "
                "numbers of it (to_numeric)"
            )
        if isinstance(value, str):
            raise self.error(f"'{excerpt(value)}' is text, not a number")
        array: npt.NDArray[Any] = np.asarray(value, dtype=float)
        if array.ndim > 1:
            raise self.error("part of it has several columns; they can only be a term themselves")
        return array if array.ndim else np.float64(array)

    def truths(self, node: Node, sign: str) -> Bools:
        """(n,) truth values; a number is none, since ``x > 0 & z`` is ``x > (0 & z)`` in Python."""
        value = self.value(node)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "b":
            raise self.error(
                f"'{sign}' takes comparisons, each in parentheses, such as (x > 0) & (z < 1), or "
                "columns of truth values"
            )
        return value

    def _unary(self, node: Unary) -> Floats | Bools:
        if node.sign == "~":
            return ~self.truths(node.of, "~")
        value = self.numbers(node.of)
        return -value if node.sign == "-" else value

    def _binary(self, node: Binary) -> Floats | Bools:
        if node.sign in ("==", "!="):
            sides = self.value(node.left), self.value(node.right)
            for factor, other in (sides, sides[::-1]):
                if isinstance(factor, Factor):
                    return self._is_level(factor, other) == (node.sign == "==")
        if node.sign in ("&", "|"):
            left, right = self.truths(node.left, node.sign), self.truths(node.right, node.sign)
        else:
            left, right = self.numbers(node.left), self.numbers(node.right)
        return _OPERATORS[node.sign](left, right)

    def _is_level(self, factor: Factor, level: Any) -> Bools:
        if isinstance(level, Factor) or np.ndim(level):
            raise self.error("a factor is compared with one level, such as I(arm == 'b')")
        place = _places(factor.levels).get(_key(level))
        if place is None:
            raise self.error(
                f"the factor has no level {excerpt(repr(_plain(level)))}; its levels are "
                f"{listed(factor.levels)}"
            )
        return factor.codes == place

    def _python(self, node: Opaque) -> Floats | Bools:
        if not node.columns:
            raise self.error("it reads no column")
        columns = {name: _as_series(self.columns[name]) for name in node.columns}
        return python_value(node, columns, check=self.learning)

    def _call(self, node: Call) -> Any:
        if node.function == "C":
            return self._factor(node)
        function = FUNCTIONS[node.function]
        if function.kind == "identity":
            return self.value(node.of[0])
        of = [self.numbers(inner) for inner in node.of]
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in node.options}
        try:
            if function.kind == "elementwise":
                return function.of(*of, **options)
            if function.kind == "reduction":
                return self._reduced(node.text, lambda: float(function.of(*of, **options)))
            return self._transformed(node.text, function.of, of[0], options)
        except (TypeError, ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
            raise self.error(str(error)) from None

    def _reduced(self, text: str, reduce: Callable[[], float]) -> np.float64:
        if self.learning and text not in self.learned.values:
            known = self.learned.known
            self.learned.values[text] = known[text] if text in known else reduce()
        return np.float64(self.learned.values[text])

    def _transformed(
        self, text: str, of: Callable[..., Any], x: Any, options: dict[str, Any]
    ) -> Any:
        if np.ndim(x) == 0:
            raise self.error("a transform needs a column")
        if not np.isfinite(x).all():
            raise NonFiniteError(
                f"what stands inside '{excerpt(text)}' is not finite in every row; correct or drop "
                "such rows"
            )
        if self.learning and text in self.learned.known:
            self.learned.values[text] = self.learned.known[text]
        if text in self.learned.values or not self.learning:
            return of(x, self.learned.values[text], **options)
        state: dict[str, Any] = {}
        made = of(x, state, **options)
        self.learned.values[text] = state
        return made

    def _factor(self, node: Call) -> Factor:
        value, options = self.value(node.of[0]), dict(node.options)
        if isinstance(value, str) or np.ndim(getattr(value, "codes", value)) != 1:
            raise self.error("C() takes one column")
        given = options.get("levels")
        if isinstance(given, tuple) and self.learning:
            self.learned.levels[node.text] = list(given)
        made = self.known(node.text, value)
        contrast = options.get("contrasts", made.contrast)
        return Factor(made.codes, made.levels, contrast if isinstance(contrast, tuple) else None)

    def known(self, text: str, values: Any) -> Factor:
        """Values as codes of the levels that were learned."""
        own = values if isinstance(values, Factor) else Factor(*_coded(values))
        if self.learning and text not in self.learned.levels:
            present = np.unique(own.codes)
            self.learned.levels[text] = [own.levels[i] for i in present]
        levels = self.learned.levels[text]
        place = _places(levels)
        places = np.array([place.get(_key(v), -1) for v in own.levels], dtype=np.int64)
        codes = places[own.codes] if len(places) else np.empty(0, np.int64)
        if (codes < 0).any():
            unseen = [own.levels[i] for i in np.unique(own.codes[codes < 0])]
            raise NewLevelError(
                f"levels outside those of the fit (or of levels=) in '{excerpt(text)}': "
                f"{', '.join(level_text(v) for v in unseen[:6])}; "
                "leave such rows out, or fit again with rows or levels= that include them"
            )
        return Factor(codes, levels, own.contrast)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "//": np.floor_divide,
    "%": np.mod,
    "**": lambda a, b: a**b,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "&": np.logical_and,
    "|": np.logical_or,
}


def _as_series(values: Floats | Bools | Factor) -> pd.Series:
    if isinstance(values, Factor):
        return pd.Series(pd.Categorical.from_codes(values.codes, values.levels))
    return pd.Series(values)


def _coded(values: npt.NDArray[Any]) -> tuple[Ints, list[object]]:
    levels, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), levels.tolist()


def _places(levels: Sequence[object]) -> dict[tuple[str, object], int]:
    return {_key(level): i for i, level in enumerate(levels)}


def _key(level: object) -> tuple[str, object]:
    """Tells levels apart by kind: the text "1", the number 1 and True are three levels.

    One that is none of these (an interval, a date) is named by its text.
    """
    level = _plain(level)
    if isinstance(level, bool):
        return "truth", level
    return ("number", float(level)) if isinstance(level, int | float) else ("text", str(level))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def level_text(level: object) -> str:
    """A level as tables print it: whole numbers without a point, anything else as it is.

    >>> level_text(2.0), level_text("2.0"), level_text(True)
    ('2', '2.0', 'True')
    """
    level = _plain(level)
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)
