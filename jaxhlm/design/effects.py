"""Which random effects of a model are meant by random terms written again, ``(1 | unit)``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from jaxhlm.core.notation import Bools
from jaxhlm.design.coding import scoped_terms
from jaxhlm.design.design import Design
from jaxhlm.errors import UnknownTermError
from jaxhlm.language.algebra import Term, read_terms
from jaxhlm.language.formula import parse_effects
from jaxhlm.language.nodes import full_basis
from jaxhlm.language.words import excerpt

__all__ = ["chosen_effects"]

# How a term enters: the factors of each product of columns, and whether by contrasts.
Entered = frozenset[frozenset[tuple[str, bool]]]


def chosen_effects(design: Design, terms: str) -> Bools:
    """(q,) True for the columns of Z that random terms stand for.

    A column is told by its term and by how factors are coded in it, so that ``(0 + f | g)`` is no
    part of ``(1 + f | g)``, whose columns are differences from the first level of f.

    Args:
        design: the model.
        terms: random terms, "(1 | unit)" or "~ (1 | unit)"; "0" or "~ 0" for none.

    Raises:
        FormulaError: the text is something else.
        UnknownTermError: a term, or its grouping factor, is not in the model.

    Example:
        >>> import jaxhlm as hlm
        >>> d = hlm.design("~ Days + (1 + Days | Subject)", hlm.load_dataset("sleepstudy"))
        >>> chosen_effects(d, "~ (0 + Days | Subject)")
        array([False,  True])
    """
    sides, group = parse_effects(terms)
    if sides and set(group) != set(design._groups.columns):
        raise UnknownTermError(
            f"'{excerpt(terms)}' groups by {':'.join(group)}, the model by {design.group_name}"
        )
    coded = {text for part in design._random for text in part.coding}
    there = list[Entered]()
    for part in design._random:
        written = [tuple(part.factors[i] for i in term) for term in part.written.values()]
        of_term = dict(zip(part.written, _entered(written, coded), strict=True))
        there += [of_term[label] for label in part.terms]
    chosen = np.zeros(len(there), bool)
    for side in sides:
        asked = read_terms(side)
        for term, entered in zip(asked, _entered(asked, coded), strict=True):
            here = np.array([own == entered for own in there])
            if not here.any():
                name = ":".join(factor.text for factor in term) or "an intercept"
                raise UnknownTermError(
                    f"'{excerpt(terms)}' has {name}, which is not in the model as it is coded "
                    f"there; its random effects are {', '.join(design.znames)}"
                )
            chosen |= here
    return chosen


def _entered(terms: Sequence[Term], coded: Collection[str]) -> list[Entered]:
    """How every term of a side enters; ``coded`` are the expressions that are factors."""
    factors = tuple(dict.fromkeys(factor for term in terms for factor in term))
    spans = [factor.text in coded or full_basis(factor.node) for factor in factors]
    numbers = [[factors.index(factor) for factor in term] for term in terms]
    return [
        frozenset(frozenset((factors[c.factor].text, c.reduced) for c in part) for part in scoped)
        for scoped in scoped_terms(numbers, spans)
    ]
