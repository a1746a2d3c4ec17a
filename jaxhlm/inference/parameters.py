"""All parameters of fits side by side: fixed effects, standard deviations, correlations, σ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from jaxhlm.core.notation import Floats
from jaxhlm.errors import OptionError
from jaxhlm.estimation.estimates import Estimates
from jaxhlm.estimation.model import Model
from jaxhlm.inference.criteria import correlation, standard_errors

__all__ = [
    "Parameter",
    "choose",
    "parameter_names",
    "parameter_values",
    "parameters",
    "position",
    "random_entries",
    "random_groups",
    "random_names",
    "random_values",
]


class Parameter(NamedTuple):
    """A parameter of a model, as ``lme4::confint(fit, oldNames = FALSE)`` names it.

    Attributes:
        name: such as "sd_x|unit", "cor_x.(Intercept)|unit", "sigma", or the fixed effect's.
        kind: "sd", "cor", "sigma" or "fixed".
        at: columns of Z (one, or row and column of the correlation) or of X; () for sigma.
    """

    name: str
    kind: str
    at: tuple[int, ...]


def parameters(model: Model) -> tuple[Parameter, ...]:
    """All parameters of a model: those of the random part in the order of θ, σ, fixed effects."""
    z = model.znames
    random = [
        Parameter(f"sd_{z[a]}|{term.group}", "sd", (a,))
        if a == b
        else Parameter(f"cor_{z[a]}.{z[b]}|{term.group}", "cor", (a, b))
        for term in model.terms
        for a, b in term.entries
    ]
    fixed = [Parameter(name, "fixed", (j,)) for j, name in enumerate(model.xnames)]
    return (*random, Parameter("sigma", "sigma", ()), *fixed)


def choose(known: Sequence[Parameter], names: str | Sequence[str] | None) -> tuple[Parameter, ...]:
    """The parameters of those names, or all if None.

    Raises:
        OptionError: a name is not among those that are known.
    """
    if names is None:
        return tuple(known)
    by_name = {p.name: p for p in known}
    asked = [names] if isinstance(names, str) or not np.iterable(names) else list(names)
    for name in asked:
        if name not in by_name:
            raise OptionError(
                f"parm={name!r} is no parameter here; choose from " + ", ".join(map(repr, by_name))
            )
    return tuple(by_name[name] for name in asked)


def parameter_names(model: Model) -> tuple[str, ...]:
    """Names such as ``Days``, ``sd__Days``, ``cor__(Intercept).Days``, ``sigma``."""
    return (*model.xnames, *random_names(model), "sigma")


def parameter_values(model: Model, estimates: Estimates) -> Floats:
    """(B, m) values in the order of ``parameter_names``."""
    random = random_values(model, estimates.cov)
    return np.column_stack([estimates.beta, random, estimates.sigma])


def position(model: Model, parameter: Parameter) -> int:
    """Where a parameter stands among ``parameter_names``."""
    fixed = [("fixed", (j,)) for j in range(len(model.xnames))]
    random = [("sd", (a,)) if a == b else ("cor", (a, b)) for a, b in random_entries(model)]
    known: list[tuple[str, tuple[int, ...]]] = [*fixed, *random, ("sigma", ())]
    return known.index((parameter.kind, tuple(sorted(parameter.at))))


def random_names(model: Model) -> tuple[str, ...]:
    """Names of the standard deviations, then of the correlations, term after term as in lme4."""
    z = model.znames
    return tuple(
        f"sd__{z[a]}" if a == b else f"cor__{z[a]}.{z[b]}" for a, b in random_entries(model)
    )


def random_values(model: Model, cov: Floats) -> Floats:
    """(B, …) standard deviations and correlations of covariances (B, q, q).

    A correlation beside a zero variance is NaN.
    """
    sd, corr = standard_errors(cov), correlation(cov)
    columns = [sd[:, a] if a == b else corr[:, a, b] for a, b in random_entries(model)]
    return np.stack(columns, axis=1)


def random_groups(model: Model) -> tuple[str, ...]:
    """The grouping factors of what ``random_names`` names."""
    return tuple(term.group for term in model.terms for _ in term.entries)


def random_entries(model: Model) -> list[tuple[int, int]]:
    """Columns of Z with a variance (twice the same) or a correlation."""
    return [
        at for block in model.blocks for at in [*((a, a) for a in block), *combinations(block, 2)]
    ]
