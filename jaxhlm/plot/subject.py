"""What a figure is of: one fit, and those of its random effects that it shows."""

from __future__ import annotations

import pandas as pd

from jaxhlm.core.notation import Floats, Ints
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.plot.canvas import INK, literal
from jaxhlm.results.fit import Fit

__all__ = [
    "INTERCEPT",
    "check_one_fit",
    "dots",
    "effect_name",
    "extremes",
    "response_label",
    "two_effects",
]

INTERCEPT = "(Intercept)"
# More points than these are drawn smaller and lighter, for they lie on each other.
MANY_ROWS = 2000


def check_one_fit(fit: object) -> None:
    """Refuse anything but a ``Fit``.

    Raises:
        OptionError: a batch, or no fit at all.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"fit is a {type(fit).__name__}: draw one fit, such as fits[0]")


def dots(n: int, color: str = INK[0], *, light: bool = True) -> dict[str, object]:
    """How ``n`` points look: many are smaller, and paler if they lie on each other."""
    many = n > MANY_ROWS
    alpha = (0.25 if many else 0.6) if light else 0.8
    size = 1.8 if many else 3.0
    return {"color": color, "alpha": alpha, "markersize": size, "markeredgewidth": 0, "zorder": 2}


def two_effects(fit: Fit, terms: tuple[str, str] | None) -> list[int]:
    """Where two random effects are among those of the fit; by default the first two.

    Raises:
        OptionError: a batch, a fit with fewer than two random effects, or not two terms.
        UnknownTermError: a term is no random effect of the fit.
    """
    check_one_fit(fit)
    names = fit.model.znames
    if len(names) < 2:
        raise OptionError(
            f"this figure needs two random effects; the fit has {', '.join(names)} alone: see "
            "plot.qq(fit), plot.caterpillar(fit) or fit.shrinkage()"
        )
    chosen = list(names[:2] if terms is None else terms)
    for name in chosen:
        if name not in names:
            raise UnknownTermError(f"no random effect {name!r}; the fit has {', '.join(names)}")
    if len(set(chosen)) != 2:
        raise OptionError(f"terms={terms!r} must name two random effects of {', '.join(names)}")
    return [names.index(name) for name in chosen]


def effect_name(name: str) -> str:
    """A random effect as axes name it.

    >>> effect_name("Days")
    'Slope of Days'
    """
    return "Intercept" if name == INTERCEPT else literal(f"Slope of {name}")


def response_label(fit: Fit, what: str) -> str:
    """A quantity in the unit of the response, which names it.

    >>> import jaxhlm as hlm
    >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
    >>> response_label(fit, "Residual")
    'Residual of Reaction'
    """
    return literal(f"{what} of {fit.model.response_name}") if fit.model.response_name else what


def extremes(x: Floats, group: Ints) -> tuple[Floats, Floats]:
    """(G,) smallest and largest value of every group."""
    grouped = pd.Series(x).groupby(group)
    return grouped.min().to_numpy(), grouped.max().to_numpy()
