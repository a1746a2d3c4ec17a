"""The functions that a formula may call, and what to write instead of those that it may not.

A value computed from all rows (a mean, a knot) is *learned*: from the rows that are fitted, once,
and only applied afterwards, in predictions, simulations and refits. A function whose value in one
row depends on the others in any other way (ranks, differences, running sums) is not allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.errors import FormulaError
from jaxhlm.language.nodes import Call, Column, Constant, Node, Opaque
from jaxhlm.language.words import excerpt

__all__ = [
    "CONTRASTS",
    "FUNCTIONS",
    "MAX_COLUMNS",
    "Function",
    "is_number",
    "learns",
    "lookup",
    "options_of",
    "values_as_levels",
]

MAX_COLUMNS = 500
Check = Callable[[object], bool]
# What a transform has learned, by what it calls it.
Kind = Literal["elementwise", "reduction", "transform", "factor", "quote", "identity"]
State = dict[str, Any]


@dataclass(frozen=True)
class Function:
    """A function of a formula.

    Attributes:
        name: as called.
        kind: ``elementwise`` (a value for each row from that row alone), ``reduction`` (one number
            learned from all rows), ``transform`` (columns, with what was learned), ``factor``
            (``C`` and R's ways to say it), ``quote`` (``Q``) or ``identity`` (``I``).
        of: computes it; for a transform ``of(x, state, **options)`` fills an empty state.
        arrays: number of arguments that are expressions.
        options: names of the constants that follow, in order, and which values they may have.
    """

    name: str
    kind: Kind
    of: Callable[..., Any]
    arrays: int
    options: Mapping[str, Check]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a constant is a number, which True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_whole(low: int, high: int) -> Check:
    def check(value: object) -> bool:
        return is_number(value) and low <= value <= high and value == int(value)

    return check


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_COLUMNS and all(map(is_number, value))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _one_of(*values: object) -> Check:
    return lambda value: value in values


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def _scale(
    x: Floats, state: State, center: float = True, scale: float = True, ddof: float = 1.0
) -> Floats:
    """(x − mean)/sd as R's ``scale``; a number in place of True is used as it is."""
    if not state:
        state["center"] = float(x.mean()) if center is True else float(center)
        squares = ((x - state["center"]) ** 2).sum()
        sd = np.sqrt(squares / (len(x) - ddof)) if scale is True else scale
        state["scale"] = float(sd) if scale is not False else 1.0
    return (x - state["center"]) / state["scale"]


def _center(x: Floats, state: State) -> Floats:
    return _scale(x, state, scale=False)


def _standardize(
    x: Floats, state: State, center: float = True, rescale: float = True, ddof: float = 0.0
) -> Floats:
    return _scale(x, state, center, rescale, ddof)


def _poly(x: Floats, state: State, degree: int = 1, raw: bool = False) -> Floats:
    """(n, degree) orthogonal polynomials as R's ``poly``, or plain powers.

    The three-term recurrence of Kennedy & Gentle (1980), Statistical Computing, pp. 343-344.
    """
    degree = int(degree)
    if raw:
        return np.stack([x**k for k in range(1, degree + 1)], axis=1)
    learning = not state
    if learning:
        state.update(alpha=[], norm=[float(len(x))])
    columns = [np.ones(len(x))]
    for k in range(degree):
        last = columns[-1]
        if learning:
            state["alpha"].append(float((x * last**2).sum() / (last**2).sum()))
        new = (x - state["alpha"][k]) * last
        if k:
            new = new - state["norm"][k] / state["norm"][k - 1] * columns[-2]
        if learning:
            state["norm"].append(float((new**2).sum()))
        columns.append(new)
    return np.stack(columns[1:], axis=1) / np.sqrt(state["norm"][1 : degree + 1])


def _spline(name: str) -> Callable[..., Floats]:
    def basis(x: Floats, state: State, **options: Constant) -> Floats:
        # Most formulas have no spline, and formulaic takes a second to import.
        from formulaic.transforms import TRANSFORMS

        made = TRANSFORMS[name](x, _state=state, **_whole_options(options))
        return np.stack(list(made.__wrapped__.values()), axis=1)

    return basis


def _whole_options(options: dict[str, Constant]) -> dict[str, Constant]:
    return {k: int(v) if k in ("df", "degree") and is_number(v) else v for k, v in options.items()}


def _var(x: Floats, ddof: float = 0.0) -> float:
    return np.float64(((x - x.mean()) ** 2).sum()) / (x.size - ddof)


def _std(x: Floats, ddof: float = 0.0) -> float:
    return np.sqrt(_var(x, ddof))


def _digitize(x: Floats, bins: list[float]) -> Floats:
    return np.digitize(x, bins).astype(float)


def _round(x: Floats, decimals: float = 0) -> Floats:
    return np.round(x, int(decimals))


def _exp10(x: Floats) -> Floats:
    return np.power(10.0, x)


def _where(condition: Floats | Bools, a: Floats, b: Floats) -> Floats:
    return np.where(np.asarray(condition) != 0, a, b)


def _named(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_ELEMENTWISE = _named(
    """log log10 log2 log1p exp exp2 expm1 sqrt cbrt abs fabs absolute sign square reciprocal
    negative sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh deg2rad rad2deg
    radians degrees floor ceil trunc rint logical_not"""
)
_OF_TWO = _named(
    """power minimum maximum fmin fmax hypot arctan2 mod remainder fmod floor_divide add subtract
    multiply divide true_divide logaddexp heaviside logical_and logical_or logical_xor"""
)
_REDUCTIONS = _named("mean median min max amin amax sum ptp")
_BARE = _named("log log10 log2 log1p exp exp2 expm1 sqrt abs")

_SPLINE: dict[str, Check] = {
    "df": _or_none(_is_whole(1, MAX_COLUMNS)),
    "knots": _or_none(_are_numbers),
}
_BOUNDS: dict[str, Check] = {
    "lower_bound": _or_none(is_number),
    "upper_bound": _or_none(is_number),
}
_BEYOND: dict[str, Check] = {"extrapolation": _one_of("raise", "clip", "na", "zero", "extend")}
_BS = {**_SPLINE, "degree": _is_whole(0, 20), "include_intercept": _is_flag, **_BOUNDS, **_BEYOND}
_CR = {**_SPLINE, **_BOUNDS, "constraints": _one_of(None, "center"), **_BEYOND}
_FLAG_OR_NUMBER = _either(_is_flag, is_number)


def _table() -> dict[str, Function]:
    table: dict[str, Function] = {}

    def add(kind: Kind, name: str, of: Any, arrays: int, **options: Check) -> None:
        table[name] = Function(name, kind, of, arrays, options)

    for name in _ELEMENTWISE:
        add("elementwise", f"np.{name}", getattr(np, name), 1)
    for name in _OF_TWO:
        add("elementwise", f"np.{name}", getattr(np, name), 2)
    for name in _BARE:
        add("elementwise", name, getattr(np, name), 1)
    add("elementwise", "exp10", _exp10, 1)
    add("elementwise", "np.where", _where, 3)
    add("elementwise", "np.clip", np.clip, 3)
    add("elementwise", "np.round", _round, 1, decimals=_is_whole(-300, 300))
    add("elementwise", "np.around", _round, 1, decimals=_is_whole(-300, 300))
    add("elementwise", "np.digitize", _digitize, 1, bins=_are_numbers)
    for name in _REDUCTIONS:
        add("reduction", f"np.{name}", getattr(np, name), 1)
    add("reduction", "np.var", _var, 1, ddof=is_number)
    add("reduction", "np.std", _std, 1, ddof=is_number)
    add("reduction", "np.quantile", np.quantile, 1, q=_in_range(0.0, 1.0))
    add("reduction", "np.percentile", np.percentile, 1, q=_in_range(0.0, 100.0))
    add("transform", "center", _center, 1)
    flags: dict[str, Check] = {
        "center": _FLAG_OR_NUMBER,
        "scale": _FLAG_OR_NUMBER,
        "ddof": is_number,
    }
    add("transform", "scale", _scale, 1, **flags)
    flags["rescale"] = flags.pop("scale")
    flags["ddof"] = flags.pop("ddof")
    add("transform", "standardize", _standardize, 1, **flags)
    add("transform", "poly", _poly, 1, degree=_is_whole(1, 50), raw=_is_flag)
    add("transform", "bs", _spline("bs"), 1, **_BS)
    for name in ("cr", "cs", "cc"):
        add("transform", name, _spline(name), 1, **_CR)
    add("identity", "I", None, 1)
    add("quote", "Q", None, 0)
    for name in ("C", "factor", "as.factor", "relevel"):
        add("factor", name, None, 1)
    return table


def _in_range(low: float, high: float) -> Check:
    return lambda value: is_number(value) and low <= value <= high


FUNCTIONS = _table()
# Contrasts of C(), by the names of formulaic and of patsy.
CONTRASTS = {
    **{f"contr.{name}": name for name in ("treatment", "sum", "helmert", "diff", "poly", "SAS")},
    "Treatment": "treatment",
    "Sum": "sum",
    "Helmert": "helmert",
    "Diff": "diff",
    "Poly": "poly",
}

_INSTEAD = {
    "as.numeric": "make the column numeric in the data, with pandas.to_numeric",
    "as.integer": "make the column numeric in the data, with pandas.to_numeric",
    "interaction": "write a:b",
    "ordered": "write C(x, contr.poly)",
    "ns": "write cr(x, df=3), a natural cubic spline",
    "s": "write cr(x, df=5), a natural cubic spline",
    "ifelse": "write np.where(condition, a, b)",
    "sd": "write np.std(x, ddof=1)",
    "var": "write np.var(x, ddof=1)",
    "pmin": "write np.minimum(a, b)",
    "pmax": "write np.maximum(a, b)",
    "offset": "an offset is a term by itself, y ~ x + offset(z)",
    "cbind": "give one response; many responses go to fit_many(responses=)",
    "hashed": "make the column of buckets in the data first",
    "lag": "its value depends on other rows: make it a column of the data first",
    "cut": "make the column with pandas.cut in the data first, or write np.digitize(x, [limits])",
}
_OTHER_ROWS = _named(
    """rank cumsum cumprod cummax cummin nancumsum diff shift lag sort argsort sort_values roll flip
    gradient ediff1d unique qcut cut pct_change rolling ewm expanding searchsorted convolve interp
    random choice permutation shuffle normal rand randn fillna interpolate"""
)


def lookup(name: str, source: str) -> Function:
    """The function of a name.

    Raises:
        FormulaError: there is none; the message says what to write.

    Example:
        >>> lookup("np.std", "np.std(x)").kind
        'reduction'
    """
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    raise FormulaError(f"unknown function '{name}' in '{excerpt(source)}': {_advice(name)}")


def learns(node: Node, known: Container[str]) -> bool:
    """Whether a node is a call that learns from the rows, other than those whose text is known."""
    if not isinstance(node, Call) or node.text in known:
        return False
    # Plain powers need nothing of the rows.
    raw = dict(node.options).get("raw") is True
    return FUNCTIONS[node.function].kind in ("reduction", "transform", "factor") and not raw


def values_as_levels(node: Node) -> tuple[str, ...]:
    """The columns whose values are the levels of a factor: ``x``, ``C(x)``, not ``x > 5``."""
    while isinstance(node, Call) and FUNCTIONS[node.function].kind == "factor":
        node = node.of[0]
    if isinstance(node, Column):
        return (node.name,)
    return node.columns if isinstance(node, Opaque) else ()


def _advice(name: str) -> str:
    last = name.rpartition(".")[2]
    if name in _INSTEAD:
        return _INSTEAD[name]
    if last in _OTHER_ROWS or name.startswith("np.random."):
        return "its value in a row depends on other rows: make it a column of the data first"
    if f"np.{last}" in FUNCTIONS:
        return f"write np.{last}(x)"
    return (
        "a formula may call "
        + ", ".join(name for name in FUNCTIONS if "." not in name)
        + " and functions of NumPy such as np.log or np.mean (jaxhlm.language.formula lists "
        "them); make anything else a column of the data first"
    )


def options_of(
    function: Function, given: Sequence[Constant], named: Mapping[str, Constant], source: str
) -> dict[str, Constant]:
    """The constants of a call by name, checked.

    Args:
        function: what is called.
        given: constants by position.
        named: constants by name.
        source: the call as written.

    Raises:
        FormulaError: too many, unknown, twice, or of a value that the function has not.
    """
    if len(given) > len(function.options):
        raise FormulaError(
            f"too many arguments in '{excerpt(source)}'; {function.name} takes "
            f"{', '.join(['x', *function.options])}"
        )
    found = dict(zip(function.options, given, strict=False))
    for name, value in named.items():
        if name not in function.options or name in found:
            raise FormulaError(
                f"'{name}' in '{excerpt(source)}' is no argument of {function.name}, or is given "
                f"twice; it takes {', '.join(['x', *function.options])}"
            )
        found[name] = value
    for name, value in found.items():
        if not function.options[name](value):
            raise FormulaError(
                f"{name}={excerpt(repr(value))} in '{excerpt(source)}' is not a value that "
                f"{function.name} takes"
            )
    return found
