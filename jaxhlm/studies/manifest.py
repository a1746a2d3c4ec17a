"""The manifest of a study: what it is, as JSON with a checksum of every entry.

What was damaged or edited is so found, and named with its line and key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxhlm.core.files import checksum, write_text
from jaxhlm.errors import StudyFolderError

__all__ = ["SCHEMA", "check_same", "read_manifest", "write_manifest"]

# Of the folder's layout.
SCHEMA = 2
CHECKSUMS = "checksums"
ENTRIES: dict[str, type] = {
    "schema": int, "conditions": list, "mechanisms": list, "methods": list, "n": int, "seed": int,
    "options": dict, "versions": dict, "chunks": list,
}  # fmt: skip
# What the members of a list are.
PARTS: dict[str, Callable[[Any], bool]] = {
    "conditions": lambda one: isinstance(one, dict),
    "methods": lambda one: isinstance(one, dict) and isinstance(one.get("name"), str),
    "chunks": lambda one: (
        isinstance(one, list) and len(one) == 4 and all(type(x) is int and x >= 0 for x in one[:3])
    ),
}


def write_manifest(file: Path, manifest: Mapping[str, Any]) -> None:
    """Write entries that JSON has a form for, and their checksums."""
    entries = {**manifest, CHECKSUMS: _checksums(manifest)}
    write_text(file, json.dumps(entries, indent=1))


def read_manifest(file: Path) -> dict[str, Any]:
    """The entries that ``write_manifest`` wrote.

    Raises:
        StudyFolderError: the file cannot be read, is of another layout, is damaged, or was edited;
            the message has the line and the key.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(file, 0, f"cannot be read: {error}") from error
    manifest = _parsed(file, text)
    _check_complete(file, text, manifest)
    return {key: manifest[key] for key in manifest if key != CHECKSUMS}


def check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to mix runs that would not give the same numbers.

    Args:
        path: the folder.
        old, new: the manifest that is there, and that of the study to be written to it.

    Raises:
        StudyFolderError: they differ.
    """
    different = [key for key in new if old.get(key) != new[key]]
    if not different:
        return
    details = []
    for key in different:
        if key == "versions":
            changed = {k: v for k, v in new[key].items() if old.get(key, {}).get(k) != v}
            was = {k: old.get(key, {}).get(k) for k in changed}
            details.append(f"versions (was {was}, now {changed})")
        elif isinstance(new[key], list | dict):
            details.append(key)
        else:
            details.append(f"{key} (was {old.get(key)!r}, now {new[key]!r})")
    raise StudyFolderError(
        f"{path} holds another study; it differs in " + ", ".join(details) + ". Nothing was "
        "changed: give another folder, or the arguments that this one was made with"
    )


def _parsed(file: Path, text: str) -> dict[str, Any]:
    """The entries of a manifest of this layout."""
    try:
        manifest = json.loads(text)
    except json.JSONDecodeError as error:
        raise _damaged(file, error.lineno, f"not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise _damaged(file, 0, f"not JSON: {error}") from error
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise _damaged(file, 1, "schema: is missing")
    if manifest["schema"] != SCHEMA:
        raise StudyFolderError(
            f"{file}:{_line(text, 'schema')}: schema: the layout {manifest['schema']!r} is that of "
            f"another version of jaxhlm; this one reads layout {SCHEMA}"
        )
    return manifest


def _check_complete(file: Path, text: str, manifest: Mapping[str, Any]) -> None:
    """Every entry is there, of its type, and as it was written."""
    told = manifest.get(CHECKSUMS)
    if not isinstance(told, dict):
        raise _damaged(file, _line(text, CHECKSUMS), f"{CHECKSUMS}: is missing, or no table")
    for key in (*ENTRIES, *(manifest.keys() - {*ENTRIES, CHECKSUMS})):
        if key not in manifest:
            raise _damaged(file, 1, f"{key}: is missing")
        if not isinstance(manifest[key], ENTRIES.get(key, object)):
            raise _damaged(file, _line(text, key), f"{key}: is no {ENTRIES[key].__name__}")
        if key in PARTS and not all(map(PARTS[key], manifest[key])):
            raise _damaged(file, _line(text, key), f"{key}: has an entry of another form")
        if told.get(key) != _checksums({key: manifest[key]})[key]:
            raise _damaged(file, _line(text, key), f"{key}: is not what was written")


def _checksums(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {key: checksum(json.dumps(value).encode()) for key, value in manifest.items()}


def _damaged(file: Path, line: int, what: str) -> StudyFolderError:
    where = f"{file}:{line}" if line else str(file)
    return StudyFolderError(
        f"{where}: {what}; the manifest is damaged or was edited: put it back as it was, or remove "
        "it and resume with the same arguments and seed, for the chunks say which study they are of"
    )


def _line(text: str, key: str) -> int:
    """The line of an entry of the manifest; 0 where it has none."""
    found = re.search(rf'^ "{re.escape(key)}":', text, re.MULTILINE)
    return 0 if found is None else text.count("\n", 0, found.start()) + 1
