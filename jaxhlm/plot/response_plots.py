"""Figures of tests of very many responses: which differ, whether p values are as they should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jaxhlm.core.arguments import whole_number
from jaxhlm.core.notation import Floats
from jaxhlm.errors import NoRowsError, OptionError
from jaxhlm.inference.criteria import check_level
from jaxhlm.inference.multiplicity import null_share
from jaxhlm.inference.tails import beta_quantile
from jaxhlm.plot.canvas import (
    COLUMN,
    GREY,
    INK,
    LETTERS,
    canvas,
    literal,
    name_points,
    told_apart,
    wrap,
)
from jaxhlm.plot.subject import dots
from jaxhlm.results.moderated import Moderation
from jaxhlm.studies.measures import check_columns

__all__ = [
    "contrast_heat",
    "p_histogram",
    "p_qq",
    "variance_fractions",
    "variance_trend",
    "volcano",
]

BINS = 40
LEVEL = 0.95
# Letters of names side by side, and that a bar of colours takes.
ABREAST, BAR = 14, 10
# Inches of a row of colours, and of a letter.
ROW, LETTER = 0.14, 0.06


def volcano(
    table: pd.DataFrame,
    contrast: str | None = None,
    *,
    level: float = 0.05,
    labels: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """−log₁₀ p against the estimate of every response; coloured where the adjusted p is below.

    Args:
        table: a long table of ``FitBatch.test`` for one contrast, or with ``contrast`` given.
        contrast: which one of several.
        level: of the adjusted p values.
        labels: so many responses with the smallest p values are named.
        ax: axes to draw on; by default a new figure.

    Returns:
        The axes.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: several contrasts and none chosen, or one that is not there.
        NoRowsError: no response has a p value.

    Example:
        >>> table = pd.DataFrame({"response": ["u", "v"], "contrast": "dose",
        ...                       "estimate": [2.0, 0.1], "p_value": [1e-6, 0.4],
        ...                       "p_adjusted": [2e-6, 0.4]})
        >>> volcano(table).get_xlabel()
        'dose'
    """
    check_level(level)
    named = whole_number("labels", labels, least=0)
    part = _one_contrast(table, contrast, ["estimate", "p_adjusted"]).sort_values("p_value")
    x, y = part["estimate"].to_numpy(), _log(part["p_value"].to_numpy())
    found = part["p_adjusted"].to_numpy() < level
    with canvas(ax, 3.0) as axes:
        axes.plot(x[~found], y[~found], "o", **dots(len(part), GREY))
        for color, side in ((INK[1], x > 0), (INK[0], x <= 0)):
            some = found & side
            axes.plot(x[some], y[some], "o", color=color, markersize=2.6, markeredgewidth=0)
        axes.axvline(0.0, color=GREY, linewidth=0.6)
        axes.set(xlabel=literal(part["contrast"].iloc[0]), ylabel="−log₁₀ p")
        axes.set_title(f"{found.sum():,} of {len(part):,} with adjusted p < {level:g}", loc="left")
        axes.margins(x=0.12, y=0.08)
        name_points(axes, x[:named], y[:named], part.iloc[:named, 0].tolist())
    return axes


def p_histogram(
    table: pd.DataFrame, contrast: str | None = None, *, ax: Axes | None = None
) -> Axes:
    """The distribution of p values; the line is at π₀, the estimated share of true hypotheses.

    Args:
        table, contrast, ax: as for ``volcano``.

    Raises:
        MissingColumnError, OptionError, NoRowsError: as for ``volcano``.

    Example:
        >>> table = pd.DataFrame({"contrast": "dose", "p_value": np.linspace(0, 1, 101)})
        >>> p_histogram(table).get_title(loc="left")
        'dose: π₀ = 1.00'
    """
    part = _one_contrast(table, contrast, [])
    p = part["p_value"].to_numpy()
    share = null_share(p)
    with canvas(ax) as axes:
        axes.hist(p, np.linspace(0.0, 1.0, BINS + 1), color=INK[0], alpha=0.6, density=True)
        axes.axhline(share, color="black", linewidth=1.0, linestyle="--")
        axes.set(xlabel="p value", ylabel="Density", xlim=(0.0, 1.0))
        axes.set_title(literal(f"{part['contrast'].iloc[0]}: π₀ = {share:.2f}"), loc="left")
    return axes


def p_qq(table: pd.DataFrame, contrast: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Observed against expected −log₁₀ p, with the band of 95 % of uniform p values at each rank.

    The i-th smallest of m independent uniform numbers has a Beta(i, m − i + 1) distribution.

    Args:
        table, contrast, ax: as for ``volcano``.

    Raises:
        MissingColumnError, OptionError, NoRowsError: as for ``volcano``.

    Example:
        >>> table = pd.DataFrame({"contrast": "dose", "p_value": np.linspace(0.01, 1, 100)})
        >>> p_qq(table).get_ylabel()
        'Observed −log₁₀ p'
    """
    part = _one_contrast(table, contrast, [])
    p = np.sort(part["p_value"].to_numpy())
    m, rank = len(p), np.arange(1, len(p) + 1)
    expected = -np.log10((rank - 0.5) / m)
    low, high = (
        -np.log10(beta_quantile(q, rank, m - rank + 1)) for q in (0.5 + LEVEL / 2, 0.5 - LEVEL / 2)
    )
    with canvas(ax, COLUMN) as axes:
        axes.fill_between(expected, low, high, color=GREY, alpha=0.25, linewidth=0)
        axes.plot(expected[[0, -1]], expected[[0, -1]], color="black", linewidth=0.8)
        axes.plot(expected, _log(p), ".", color=INK[0], markersize=3.0, markeredgewidth=0)
        axes.set(xlabel="Expected −log₁₀ p", ylabel="Observed −log₁₀ p")
        axes.set_title(literal(part["contrast"].iloc[0]), loc="left")
    return axes


def variance_trend(found: Moderation, *, ax: Axes | None = None) -> Axes:
    """√σ̂ of every response against its mean, with the trend that variances are shrunk to.

    Args:
        found: ``fits.moderation(trend=True)``.
        ax: as for ``volcano``.

    Raises:
        OptionError: it is no moderation, or the prior has no trend.
        NoRowsError: no response has a variance.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> Y = hlm.fit("Reaction ~ Days + (1 | Subject)", data).simulate(50, seed=1)
        >>> fits = hlm.fit_many("~ Days + (1 | Subject)", data, Y)
        >>> variance_trend(fits.moderation(trend=True)).get_xlabel()
        'Mean response'
    """
    if not isinstance(found, Moderation):
        raise OptionError(f"{type(found).__name__} is no Moderation: give fits.moderation()")
    v = found.variances
    if "mean" not in v:
        raise OptionError("these variances have no trend: fits.moderation(trend=True) has one")
    v = v.dropna().sort_values("mean")
    if not len(v):
        raise NoRowsError("no response has a variance")
    with canvas(ax) as axes:
        axes.plot(v["mean"], v["variance"] ** 0.25, "o", **dots(len(v), GREY))
        axes.plot(v["mean"], v["prior"] ** 0.25, color=INK[1], linewidth=1.4, zorder=3)
        axes.set(xlabel="Mean response", ylabel="√ residual standard deviation")
        axes.set_title(f"Prior worth {found.df_prior:.3g} degrees of freedom", loc="left")
    return axes


def contrast_heat(table: pd.DataFrame, n: int = 30, *, ax: Axes | None = None) -> Axes:
    """z of every contrast for the n responses that have the largest in any of them.

    Args:
        table: a long table of ``FitBatch.test``.
        n: how many responses.
        ax: as for ``volcano``.

    Raises:
        MissingColumnError: a column is not in the frame.
        OptionError: two responses have one label.
        NoRowsError: no response has a p value.

    Example:
        >>> table = pd.DataFrame({"response": ["u", "u"], "contrast": ["a", "b"],
        ...                       "p_value": [0.01, 0.5], "z": [2.6, -0.7]})
        >>> [label.get_text() for label in contrast_heat(table).get_xticklabels()]
        ['a', 'b']
    """
    check_columns("the table", table, ["contrast", "p_value", "z"])
    known, n = table.dropna(subset=["p_value"]), whole_number("n", n)
    if not len(known):
        raise NoRowsError("no row of the table has a p value")
    twice = known[known.duplicated([known.columns[0], "contrast"])]
    if len(twice):
        raise OptionError(f"several responses are called {twice.iloc[0, 0]!r}: rename them")
    z = known.pivot(index=known.columns[0], columns="contrast", values="z")
    z = z[list(dict.fromkeys(known["contrast"]))]
    z = z.loc[z.abs().max(axis=1).sort_values(ascending=False).index[:n]]
    largest = float(np.nanmax(np.abs(z.to_numpy())))
    responses, contrasts = (told_apart(names) for names in (z.index, z))
    room, longest = LETTERS - BAR - max(map(len, responses)), max(map(len, contrasts))
    abreast = len(contrasts) * (1 + min(ABREAST, longest)) <= room
    names = [wrap(name, ABREAST) if abreast else name for name in contrasts]
    height = 0.8 + ROW * len(z) + (0.0 if abreast else LETTER * longest)
    with canvas(ax, height) as axes:
        image = axes.imshow(z, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto")
        axes.set_xticks(range(len(names)), names, rotation=0 if abreast else 90)
        axes.set_yticks(range(len(z)), responses)
        axes.tick_params(length=0)
        axes.figure.colorbar(image, ax=axes, label="z", shrink=0.8)
    return axes


def variance_fractions(fractions: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Violins of ``fits.variance_fractions()``, one for each component, ordered by their medians.

    Args:
        fractions: a row for every response, and a column for every component.
        ax: as for ``volcano``.

    Raises:
        OptionError, MissingColumnError: it is no table of fractions.
        NoRowsError: no response has fractions.

    Example:
        >>> shares = pd.DataFrame({"dose": [0.1, 0.3, 0.2], "Residual": [0.9, 0.7, 0.8]})
        >>> [label.get_text() for label in variance_fractions(shares).get_xticklabels()]
        ['dose', 'Residual']
    """
    check_columns("the table", fractions, ["Residual"])
    known = fractions.dropna()
    if not len(known):
        raise NoRowsError("no row of the table has all fractions")
    terms = known.columns.drop("Residual")
    order = [*known[terms].median().sort_values(ascending=False).index, "Residual"]
    with canvas(ax) as axes:
        values = [100.0 * known[name].to_numpy() for name in order]
        drawn = axes.violinplot(values, showextrema=False, widths=0.85)
        for i, body in enumerate(drawn["bodies"]):
            body.set(facecolor=GREY if order[i] == "Residual" else INK[i % len(INK)], alpha=0.6)
        axes.boxplot(values, widths=0.12, showfliers=False, medianprops={"color": "black"})
        axes.set_xticks(range(1, len(order) + 1), [*map(literal, order)], rotation=30, ha="right")
        axes.set(ylabel="Variance explained (%)", ylim=(-1.0, 101.0))
    return axes


def _one_contrast(table: pd.DataFrame, contrast: str | None, needed: Sequence[str]) -> pd.DataFrame:
    """Rows of one contrast that have p values."""
    check_columns("the table", table, ["contrast", "p_value", *needed])
    known = list(dict.fromkeys(table["contrast"]))
    if (contrast is None and len(known) > 1) or (contrast is not None and contrast not in known):
        raise OptionError(
            f"contrast={contrast!r}: choose one of the table's contrasts, "
            + ", ".join(map(repr, known))
        )
    part = table if contrast is None else table[table["contrast"] == contrast]
    part = part.dropna(subset=["p_value", *needed])
    if not len(part):
        raise NoRowsError("no row of the table has a p value")
    return part


def _log(p: Floats) -> Floats:
    """−log₁₀ p, finite."""
    return np.asarray(-np.log10(np.maximum(p, np.finfo(float).tiny)))
