"""Marginal means as users of emmeans write them, ``pairwise ~ g | h``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxhlm.errors import OptionError
from jaxhlm.inference.contrast_families import Contrasted

__all__ = ["OVERALL", "Asked", "asked_for"]

# What "~ 1" names: one cell, of all that is averaged over. It is told from an empty list of the
# user's, which names nothing, by being this one.
OVERALL: list[str] = []

# What emmeans also calls families.
ALIASES = {"tukey": "pairwise", "dunnett": "trt.vs.ctrl"}


class Asked(NamedTuple):
    """Arguments as of ``Fit.emmeans``."""

    specs: str | Sequence[str] | None
    by: str | Sequence[str] | None
    contrasts: Contrasted | None


def asked_for(
    specs: str | Sequence[str] | None,
    by: str | Sequence[str] | None,
    contrasts: Contrasted | None,
) -> Asked:
    """The arguments, read from a formula where ``specs`` is one, and families by their one name.

    Raises:
        OptionError: the formula says what another argument says too, or names nothing.

    >>> asked_for("pairwise ~ g + f | h", None, None)
    Asked(specs=['g', 'f'], by=['h'], contrasts='pairwise')
    >>> asked_for("~ 1", None, None).specs is OVERALL
    True
    """
    if isinstance(specs, str) and "~" in specs:
        family, _, right = specs.partition("~")
        cells, bar, within = right.partition("|")
        for name, value, told in (("contrasts", contrasts, family.strip()), ("by", by, bar)):
            if told and value is not None:
                raise OptionError(f"specs={specs!r} says what {name}= says: give one of them")
        contrasts = family.strip() or contrasts
        by = _names(specs, within) if bar else by
        specs = OVERALL if cells.strip() == "1" else _names(specs, cells)
    if isinstance(contrasts, str):
        contrasts = ALIASES.get(contrasts, contrasts)
    return Asked(specs, by, contrasts)


def _names(formula: str, text: str) -> list[str]:
    names = [name.strip().strip("`") for name in re.split(r"[+*:]", text)]
    if not all(names):
        raise OptionError(f'specs={formula!r} must be such as "~ g", "~ g + f | h", "pairwise ~ g"')
    return names
