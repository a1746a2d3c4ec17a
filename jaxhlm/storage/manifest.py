"""The manifest of a folder: what it holds, as JSON with a checksum of every entry.

What was damaged or edited is so found, and named with its line and key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxhlm.core.files import checksum, write_text
from jaxhlm.errors import FolderError

__all__ = ["Kind", "check_same", "read_manifest", "write_manifest"]

CHECKSUMS, KIND = "checksums", "kind"
# What a manifest without a word on its kind is of: there was only this one.
FIRST_KIND = "study"


def _is_chunk(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 4 and all(type(x) is int for x in one[:3])


@dataclass(frozen=True)
class Kind:
    """What folders of one kind hold.

    Attributes:
        name: what one is called.
        schema: number of the layout.
        entries: types of the entries of its manifest, beside "schema", "versions" and "chunks".
        error: what is raised.
        parts: what the members of an entry that is a list must be.
    """

    name: str
    schema: int
    entries: Mapping[str, type]
    error: type[FolderError] = FolderError
    parts: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)

    @property
    def all_entries(self) -> dict[str, type]:
        """Types of all entries."""
        return {"schema": int, **self.entries, "versions": dict, "chunks": list}

    @property
    def all_parts(self) -> dict[str, Callable[[Any], bool]]:
        """What the members of lists must be."""
        return {**self.parts, "chunks": lambda one: _is_chunk(one) and min(one[:3]) >= 0}


def write_manifest(file: Path, manifest: Mapping[str, Any]) -> None:
    """Write entries that JSON has a form for, and their checksums."""
    entries = {**manifest, CHECKSUMS: _checksums(manifest)}
    write_text(file, json.dumps(entries, indent=1))


def read_manifest(file: Path, kind: Kind) -> dict[str, Any]:
    """The entries that ``write_manifest`` wrote.

    Args:
        file: the manifest.
        kind: what it must be of.

    Raises:
        FolderError: of the kind; the file cannot be read, is of another kind or layout, is
            damaged, or was edited; the message has the line and the key.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise kind.error(
            f"{file} cannot be read: {error.strerror}; it is left as it is: see that this user may "
            "read it, and call again"
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(kind, file, 0, f"cannot be read: {error}") from error
    manifest = _parsed(kind, file, text)
    _check_complete(kind, file, text, manifest)
    return {key: manifest[key] for key in manifest if key != CHECKSUMS}


def check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any], kind: Kind) -> None:
    """Refuse to mix runs that would not give the same numbers.

    Args:
        path: the folder.
        old, new: the manifest that is there, and that of what is to be written to it.
        kind: of both.

    Raises:
        FolderError: of the kind; they differ.
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
    raise kind.error(
        f"{path} holds another {kind.name}; it differs in " + ", ".join(details) + ". Nothing was "
        "changed: give another folder, or the arguments that this one was made with"
    )


def _parsed(kind: Kind, file: Path, text: str) -> dict[str, Any]:
    """The entries of a manifest of this layout."""
    try:
        manifest = json.loads(text)
    except json.JSONDecodeError as error:
        raise _damaged(kind, file, error.lineno, f"not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise _damaged(kind, file, 0, f"not JSON: {error}") from error
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise _damaged(kind, file, 1, "schema: is missing")
    if (found := manifest.get(KIND, FIRST_KIND)) != kind.name:
        raise kind.error(f"{file} is of a {found} and not of a {kind.name}; give another folder")
    if manifest["schema"] != kind.schema:
        raise kind.error(
            f"{file}:{_line(text, 'schema')}: schema: the layout {manifest['schema']!r} is that of "
            f"another version of jaxhlm; this one reads layout {kind.schema}"
        )
    return manifest


def _check_complete(kind: Kind, file: Path, text: str, manifest: Mapping[str, Any]) -> None:
    """Every entry is there, of its type, and as it was written."""
    told = manifest.get(CHECKSUMS)
    if not isinstance(told, dict):
        raise _damaged(kind, file, _line(text, CHECKSUMS), f"{CHECKSUMS}: is missing, or no table")
    entries, parts = kind.all_entries, kind.all_parts
    for key in (*entries, *(manifest.keys() - {*entries, CHECKSUMS})):
        if key not in manifest:
            raise _damaged(kind, file, 1, f"{key}: is missing")
        if not isinstance(manifest[key], entries.get(key, object)):
            raise _damaged(kind, file, _line(text, key), f"{key}: is no {entries[key].__name__}")
        if key in parts and not all(map(parts[key], manifest[key])):
            raise _damaged(kind, file, _line(text, key), f"{key}: has an entry of another form")
        if told.get(key) != _checksums({key: manifest[key]})[key]:
            raise _damaged(kind, file, _line(text, key), f"{key}: is not what was written")


def _checksums(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {key: checksum(json.dumps(value).encode()) for key, value in manifest.items()}


def _damaged(kind: Kind, file: Path, line: int, what: str) -> FolderError:
    where = f"{file}:{line}" if line else str(file)
    return kind.error(
        f"{where}: {what}; the manifest is damaged or was edited: put it back as it was, or remove "
        "it and resume with the same arguments and seed, for the chunks say which "
        f"{kind.name} they are of"
    )


def _line(text: str, key: str) -> int:
    """The line of an entry of the manifest; 0 where it has none."""
    found = re.search(rf'^ "{re.escape(key)}":', text, re.MULTILINE)
    return 0 if found is None else text.count("\n", 0, found.start()) + 1
