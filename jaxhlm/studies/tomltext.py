"""The text of a TOML file, and where in it a key stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jaxhlm.core.utf8 import decoded
from jaxhlm.errors import JaxhlmError, StudyFileError

__all__ = [
    "NUMBER",
    "TEXT",
    "WHOLE",
    "YES_NO",
    "TomlText",
    "Types",
    "Where",
    "line_of",
    "read_toml",
]

Where = tuple[str | int, ...]
Types = tuple[type, ...]
NUMBER, WHOLE, TEXT, YES_NO = (int, float), (int,), (str,), (bool,)
NAMES: dict[Types, str] = {
    NUMBER: "a number",
    WHOLE: "a whole number",
    TEXT: "a text",
    YES_NO: "true or false",
    (dict,): "a table",
    (list,): "a list",
    (int, list, dict): "a whole number, a list or { low = …, high = … }",
    (str, dict): "a name, or a table with its kind",
    (list, dict): "a list or a table",
    (*NUMBER, list): "a number or a list",
    (bool, list): "true, false or a list of names",
    (*NUMBER, list, dict): "a number, a list or a table",
}

_WORD = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_DOTTED = rf"{_WORD}(?:\s*\.\s*{_WORD})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_ENDLESS = re.compile(r"\[{200}|[\d_]{4000}")


@dataclass(frozen=True)
class TomlText:
    """The text that errors point into."""

    path: Path
    text: str

    def fail(self, where: Where, message: str) -> NoReturn:
        """Raise with file, line and key."""
        name = "".join(f"{part}: " for part in [".".join(map(str, where))] if part)
        raise StudyFileError(f"{self.path}:{line_of(self.text, where)}: {name}{message}")

    @contextmanager
    def blaming(
        self,
        where: Where,
        places: Mapping[str, Where] | None = None,
        errors: tuple[type[Exception], ...] = (JaxhlmError, OSError, TypeError, ValueError),
    ) -> Iterator[None]:
        """Say of an error where in the text its cause stands.

        Args:
            where: that place.
            places: others, by the argument that the error's message begins with.
            errors: those that have their cause there.
        """
        try:
            yield
        except StudyFileError:
            raise
        except errors as error:
            argument = re.split(r"\W", str(error), maxsplit=1)[0]
            self.fail((places or {}).get(argument, where), str(error))

    def check(
        self,
        table: Mapping[str, Any],
        allowed: Mapping[str, Types],
        where: Where,
        needed: Sequence[str] = (),
    ) -> None:
        """Names and types of a table's keys, some of which are needed."""
        for key, value in table.items():
            if key not in allowed:
                self.fail((*where, key), "unknown key; allowed here: " + ", ".join(allowed))
            self.typed(value, allowed[key], (*where, key))
        self.required(table, needed, where)

    def typed(self, value: Any, types: Types, where: Where) -> None:
        """Refuse another type; True is no number."""
        wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
        if wrong:
            self.fail(where, f"{value!r} must be {NAMES[types]}")

    def required(self, table: Mapping[str, Any], names: Sequence[str], where: Where) -> None:
        """Refuse a table without one of some keys."""
        for name in names:
            if name not in table:
                self.fail(where, f"{name!r} is missing; needed here: " + ", ".join(names))


def read_toml(path: Path) -> tuple[TomlText, dict[str, Any]]:
    """The text of a file, and what it holds.

    Raises:
        StudyFileError: it is no UTF-8 or no TOML; the message has the line, and the key if there
            is one.
        OSError: the file cannot be opened.
    """
    text = decoded(path, path.read_bytes(), StudyFileError, "save the file as UTF-8")
    try:
        return TomlText(path, text), tomllib.loads(text)
    # Python refuses thousands of digits, and what is nested too deeply, by errors of its own.
    except (ValueError, RecursionError) as error:
        raise StudyFileError(f"{path}{_place(text, str(error))}: not TOML: {error}") from error


def _place(text: str, message: str) -> str:
    """The line that an error of the parser names, and the key that stands there."""
    lines = text.splitlines()
    if found := re.search(r"at line (\d+)", message):
        line = int(found[1])
    else:
        endless = (i for i, one in enumerate(lines, start=1) if _ENDLESS.search(one))
        line = next(endless, text.count("\n") + 1)
    key = _KEY.match("".join(lines[line - 1 : line]))
    return f":{line}: {key[1]}" if key else f":{line}"


def line_of(text: str, where: Where) -> int:
    """The line of a key in a TOML text, or of the innermost table or key around it that is found.

    >>> line_of('n = 1\\n[[methods]]\\nname = "a"\\n[[methods]]\\ndf = "b"', ("methods", 1, "df"))
    5
    """
    best, depth, table = 1, 0, Where()
    seen: dict[Where, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = _parts(header[2])
            if header[1] == "[[":
                seen[table] = seen.get(table, -1) + 1
                table = (*table, seen[table])
            found = table
        elif key := _KEY.match(line):
            found = (*table, *_parts(key[1]))
        else:
            continue
        if len(found) > depth and where[: len(found)] == found:
            best, depth = number, len(found)
    return best


def _parts(dotted: str) -> Where:
    return tuple(part.strip("\"'") for part in re.findall(_WORD, dotted))
