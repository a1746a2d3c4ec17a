"""What the library says of its arguments, in the words of the shell."""

from __future__ import annotations

import re
from collections.abc import Container

__all__ = ["in_flags"]

# What a name is set to, in a message: in quotes, a list, or up to the next blank or comma.
_VALUE = r"""'[^']*'|"[^"]*"|\[[^\]]*\]|[^\s,;:)]+"""
_ARGUMENT = re.compile(rf"(?<![\w'\"`.=-])(?:--)?([A-Za-z][\w-]*)=(?!=)({_VALUE})?")
# The method is a flag by itself, and nothing is returned to a shell.
_WORDS = {
    "with reml=True": "without --ml",
    "with reml=False": "with --ml",
    "finished and returned": "finished",
}


def in_flags(message: str, flags: Container[str]) -> str:
    """A message with ``name=value`` as ``--name value``, where the command has such a flag.

    Args:
        message: of an error or a warning.
        flags: names of the command's flags, with ``_`` for ``-``.

    Example:
        >>> in_flags('n=0 must be 1 or more; pass df="normal", k=3', {"n", "df"})
        '--n 0 must be 1 or more; pass --df normal, k=3'
        >>> in_flags("go on with resume=True", {"resume"})
        'go on with --resume'
    """

    def flag(found: re.Match[str]) -> str:
        name, value = found[1].replace("-", "_"), found[2] or ""
        if name not in flags:
            return found[0]
        # No option takes such a value: it is a switch.
        if value in ("True", "False"):
            return f"{'without ' * (value == 'False')}--{name.replace('_', '-')}"
        bare = value[1:-1] if value[:1] in ("'", '"') and " " not in value else value
        return f"--{name.replace('_', '-')} {bare}".rstrip()

    for call, words in _WORDS.items():
        message = message.replace(call, words)
    return _ARGUMENT.sub(flag, message)
