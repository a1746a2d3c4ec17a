"""Expressions over columns, read against a list of what they may hold; nothing of it is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from jaxhlm.errors import FormulaError
from jaxhlm.language.functions import CONTRASTS, is_number, lookup, options_of
from jaxhlm.language.nodes import (
    Binary,
    Call,
    Column,
    Constant,
    Expression,
    Node,
    Number,
    Text,
    Unary,
    columns_read,
)
from jaxhlm.language.opaque import allowed, read_python
from jaxhlm.language.words import Word, excerpt, in_backticks, name_of, quoted, words

__all__ = ["read"]

# Signs in one expression; each may make it a level deeper, and Python's recursion is limited.
MAX_SIGNS = 150
_CONSTANTS = {"np.pi": 3.141592653589793, "np.e": 2.718281828459045}
_LOGICALS_OF_R = {"TRUE": True, "FALSE": False}
# What C() takes after its column, and what R's functions do.
_OF_FACTOR = {
    "C": ("contrasts", "levels"),
    "factor": ("levels",),
    "as.factor": (),
    "relevel": ("ref",),
}
_KEPT = ("True", "False", "None")
_BINARY: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_UNARY: dict[type[ast.AST], str] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}


def read(source: str) -> Expression:
    """Read an expression; where formulas may run, as Python code what this language refuses.

    Raises:
        FormulaError: it holds anything but columns, numbers, arithmetic, comparisons and the
            functions of the table in ``jaxhlm.language.formula``.

    Example:
        >>> read("np.log(y+1) / `body mass`").variables
        ('y', 'body mass')
    """
    try:
        return _read(source)
    except FormulaError:
        if not allowed():
            raise
        return read_python(source)


@lru_cache(maxsize=1024)
def _read(source: str) -> Expression:
    found = words(source)
    _check_signs(found, source)
    names, pieces = _placeholders(found, source)
    try:
        tree = ast.parse(pieces, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _unreadable(found, source, getattr(error, "msg", str(error))) from None
    try:
        node = _Reader(names, source).node(tree)
        text = node.name if isinstance(node, Column) else _written(tree, names)
        return Expression(node, text, tuple(dict.fromkeys(columns_read(node))))
    except RecursionError:
        raise FormulaError(f"'{excerpt(source)}' is nested too deeply for this stack") from None


def _check_signs(found: Sequence[Word], source: str) -> None:
    signs = sum(w.kind == "sign" and w.text not in "()[]," for w in found)
    if signs > MAX_SIGNS:
        raise FormulaError(
            f"{signs} operators in '{excerpt(source)}'; at most {MAX_SIGNS} are read: make it a "
            "column of the data first"
        )
    for word in found:
        if word.text in ("{", "}", "%in%", "||", ":", "."):
            raise FormulaError(f"'{word.text}' has no meaning in '{excerpt(source)}'")


def _placeholders(found: Sequence[Word], source: str) -> tuple[dict[str, Word], str]:
    """The source with every name in the place of which stands one that Python can read.

    Python would normalise letters, and has words that people use as names.
    """
    names: dict[str, Word] = {}
    pieces = []
    for word, after in zip(found, [*found[1:], None], strict=True):
        if after is not None and after.text == "=" and word.kind == "name":
            pieces.append(_keyword(word, source))
        elif word.kind == "quoted" or (word.kind == "name" and word.text not in _KEPT):
            pieces.append(f"_{len(names)}_")
            names[pieces[-1]] = _no_attribute(word, source)
        else:
            pieces.append("**" if word.text == "^" else word.text)
    return names, " ".join(pieces)


def _keyword(word: Word, source: str) -> str:
    if word.text in _KEPT or not word.text.isidentifier() or not word.text.isascii():
        raise FormulaError(f"'{excerpt(word.text)}=' in '{excerpt(source)}' is no argument")
    return word.text


def _no_attribute(word: Word, source: str) -> Word:
    if word.kind == "name" and "__" in word.text and "." in word.text:
        raise FormulaError(
            f"'{excerpt(word.text)}' in '{excerpt(source)}': attributes are not read; a column of "
            "that name goes in `backticks`"
        )
    return word


def _unreadable(found: Sequence[Word], source: str, reason: str) -> FormulaError:
    for word in found:
        if word.kind == "name" and word.text in _PYTHON:
            return FormulaError(
                f"cannot read '{excerpt(source)}': {_PYTHON[word.text]}; a column called "
                f"{word.text} goes beside an operator"
            )
    return FormulaError(
        f"cannot read '{excerpt(source)}': {reason}; if it is the name of a column, write "
        f"{excerpt(in_backticks(source))}"
    )


_PYTHON = {
    "and": "write & for and",
    "or": "write | for or",
    "not": "write ~ for not",
    "in": "write (x == a) | (x == b) for in",
    "is": "write == for is",
    "if": "write np.where(condition, a, b) for if",
    "for": "there are no loops",
    "lambda": "there are no lambdas",
}


class _Reader:
    """From Python's syntax tree to ours; whatever is not named here is refused."""

    def __init__(self, names: dict[str, Word], source: str) -> None:
        self.names, self.source = names, source

    def node(self, tree: ast.AST) -> Node:
        if isinstance(tree, ast.Name):
            return self._name(tree.id)
        if isinstance(tree, ast.Constant) and isinstance(tree.value, bool | int | float):
            return Number(_number(tree.value))
        if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
            return Text(tree.value)
        if isinstance(tree, ast.UnaryOp) and type(tree.op) in _UNARY:
            return Unary(_UNARY[type(tree.op)], self.node(tree.operand))
        if isinstance(tree, ast.BinOp) and type(tree.op) in _BINARY:
            return Binary(_BINARY[type(tree.op)], self.node(tree.left), self.node(tree.right))
        if isinstance(tree, ast.Compare) and len(tree.ops) == 1 and type(tree.ops[0]) in _BINARY:
            sides = self.node(tree.left), self.node(tree.comparators[0])
            return Binary(_BINARY[type(tree.ops[0])], *sides)
        if isinstance(tree, ast.Call):
            return self._call(tree)
        raise FormulaError(
            f"{_KINDS.get(type(tree), type(tree).__name__)} in '{excerpt(self.source)}' is not "
            "part of a formula: make it a column of the data first"
        )

    def _name(self, placeholder: str) -> Node:
        word = self.names[placeholder]
        if word.kind == "name" and word.text in _CONSTANTS:
            return Number(_CONSTANTS[word.text])
        if word.kind == "name" and word.text.startswith(("np.", "contr.")):
            raise FormulaError(
                f"'{word.text}' in '{excerpt(self.source)}' is no column; one of that name goes in "
                "`backticks`, a function is called with parentheses"
            )
        return Column(name_of(word))

    def _call(self, tree: ast.Call) -> Node:
        called = self.names.get(tree.func.id) if isinstance(tree.func, ast.Name) else None
        if called is None or called.kind != "name":
            raise FormulaError(f"'{excerpt(self.source)}' calls something that is no function")
        function = lookup(called.text, self.source)
        if function.kind == "quote":
            return self._quote(tree)
        if function.kind == "factor":
            return self._factor(tree, function.name)
        if len(tree.args) < function.arrays:
            raise FormulaError(
                f"{function.name} in '{excerpt(self.source)}' takes {function.arrays} argument(s)"
            )
        arrays = tuple(self.node(a) for a in tree.args[: function.arrays])
        given = [self._constant(a) for a in tree.args[function.arrays :]]
        named = {self._keyword(k): self._constant(k.value) for k in tree.keywords}
        options = options_of(function, given, named, self.source)
        if function.kind == "identity":
            return arrays[0]
        return self._made(tree, function.name, arrays, options)

    def _made(
        self, tree: ast.Call, name: str, of: tuple[Node, ...], options: Mapping[str, Constant]
    ) -> Call:
        return Call(name, of, _frozen(options), _written(tree, self.names))

    def _quote(self, tree: ast.Call) -> Node:
        name = (
            tree.args[0].value
            if len(tree.args) == 1 and isinstance(tree.args[0], ast.Constant)
            else None
        )
        if not isinstance(name, str) or tree.keywords:
            raise FormulaError(f"write Q('name of a column') in '{excerpt(self.source)}'")
        return Column(name)

    def _factor(self, tree: ast.Call, called: str) -> Call:
        """``C(x, contrast, levels=[…])``, or as R says it."""
        keywords, known = {self._keyword(k): k.value for k in tree.keywords}, _OF_FACTOR[called]
        places = dict(zip(known, tree.args[1:], strict=False))
        given = {**places, **keywords}
        if (
            not 1 <= len(tree.args) <= 1 + len(known)
            or set(keywords) - set(known)
            or set(keywords) & set(places)
            or (called == "relevel" and not given)
        ):
            raise FormulaError(
                f"'{excerpt(self.source)}': write C(x), C(x, contr.sum) or C(x, levels=['a', 'b'])"
            )
        options: dict[str, Constant] = {}
        if "ref" in given:
            options["contrasts"] = ("treatment", ("base", self._constant(given["ref"])))
        if "contrasts" in given:
            options["contrasts"] = self._contrast(given["contrasts"])
        if "levels" in given and (levels := self._constant(given["levels"])) is not None:
            if not isinstance(levels, list) or not levels:
                raise FormulaError(f"levels= in '{excerpt(self.source)}' must be a list of levels")
            options["levels"] = levels
        return self._made(tree, "C", (self.node(tree.args[0]),), options)

    def _contrast(self, tree: ast.expr) -> Constant:
        """(kind, (option, value), …) of ``contr.treatment(base="a")`` and the like."""
        call = tree if isinstance(tree, ast.Call) else None
        inner = call.func if call else tree
        word = self.names.get(inner.id) if isinstance(inner, ast.Name) else None
        if isinstance(tree, ast.Constant) and tree.value is None:
            return None
        if word is None or word.text not in CONTRASTS:
            raise FormulaError(
                f"the contrasts in '{excerpt(self.source)}' must be one of " + ", ".join(CONTRASTS)
            )
        kind = CONTRASTS[word.text]
        options: dict[str, Constant] = {}
        if call:
            allowed = _CONTRAST_OPTIONS.get(kind, ())
            options = dict(zip(allowed, [self._constant(a) for a in call.args], strict=False))
            options.update({self._keyword(k): self._constant(k.value) for k in call.keywords})
            options = {"base" if k == "reference" else k: v for k, v in options.items()}
            if len(call.args) > len(allowed) or set(options) - set(allowed):
                raise FormulaError(
                    f"{word.text} in '{excerpt(self.source)}' takes "
                    + (", ".join(allowed) or "no arguments")
                )
        return (kind, *_frozen(options))

    def _keyword(self, keyword: ast.keyword) -> str:
        if keyword.arg is None:
            raise FormulaError(f"'**' in '{excerpt(self.source)}' is not part of a formula")
        return keyword.arg

    def _constant(self, tree: ast.AST) -> Constant:
        """A number, text, True, False, None, or a list of them."""
        if isinstance(tree, ast.Constant) and isinstance(tree.value, int | float):
            return tree.value if isinstance(tree.value, bool) else _number(tree.value)
        if isinstance(tree, ast.Constant) and isinstance(tree.value, str | None):
            return tree.value
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub | ast.UAdd):
            value = self._constant(tree.operand)
            if is_number(value):
                return -value if isinstance(tree.op, ast.USub) else value
        if isinstance(tree, ast.List | ast.Tuple):
            inside = [self._constant(item) for item in tree.elts]
            if not any(isinstance(item, list) for item in inside):
                return inside
        word = self.names.get(tree.id) if isinstance(tree, ast.Name) else None
        if word is not None and word.kind == "name" and word.text in _LOGICALS_OF_R:
            return _LOGICALS_OF_R[word.text]
        raise FormulaError(
            f"an argument in '{excerpt(self.source)}' must be a constant, or a list of constants"
        )


_CONTRAST_OPTIONS = {
    "treatment": ("base",),
    "SAS": ("base",),
    "helmert": ("reverse", "scale"),
    "diff": ("backward",),
    "poly": ("scores",),
}
_KINDS: dict[type[ast.AST], str] = {
    ast.Attribute: "an attribute",
    ast.Subscript: "a subscript",
    ast.Lambda: "a lambda",
    ast.ListComp: "a comprehension",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment",
    ast.Compare: "a chain of comparisons",
    ast.List: "a list",
    ast.Tuple: "a tuple",
    ast.Constant: "a constant that is no number",
    ast.Starred: "'*'",
}


def _frozen(options: Mapping[str, Constant]) -> tuple[tuple[str, Constant], ...]:
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in options.items())


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise FormulaError("a number beyond 1e308 in the formula") from None


def _written(tree: ast.AST, names: dict[str, Word]) -> str:
    """The expression with its spacing normalised."""
    shown = {p: w.text if w.kind == "name" else quoted(name_of(w)) for p, w in names.items()}
    return _TEXT_OR_NAME.sub(lambda found: shown.get(found[0], found[0]), ast.unparse(tree))


_TEXT_OR_NAME = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b_\d+_\b""")
