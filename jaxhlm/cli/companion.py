"""The article's companion: one HTML page with all that it shows, its data and its figures."""

from __future__ import annotations

import html
import platform
from base64 import b64encode
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxhlm.cli.article import (
    FORMULAS,
    PRINTED,
    Refitted,
    article_figures,
    comparison,
    recovery,
    true_values,
)
from jaxhlm.cli.figures import figure_folder, write_figures
from jaxhlm.cli.violated import DISTRIBUTIONS, MEANS, METHODS, NOTHING, violated
from jaxhlm.core.files import write_csv, write_text
from jaxhlm.core.versions import versions
from jaxhlm.datasets import load_dataset
from jaxhlm.errors import SingularFitWarning, muted
from jaxhlm.fitting.fit import fit
from jaxhlm.results.fit import Fit
from jaxhlm.studies.measures_table import with_mcse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PAGE", "write_companion"]

PAGE = "index.html"
FULL, INTERCEPTS, ROBUST = (method.name for method in METHODS)
SLOPES = ("x", "x:a")
# Of the fit whose units are to borrow more.
EVERY = 3


def write_companion(found: Refitted, n: int, seed: int, directory: Path) -> list[Path]:
    """Write the page with its data, tables and figures.

    Args:
        found: the article's fits, and those of data sets from its truth.
        n: data sets for each violated assumption.
        seed: of their draws.
        directory: where they go; made if it is not there.

    Returns:
        The files, the page first.
    """
    figure_folder(directory)
    data = load_dataset("article")
    with muted(SingularFitWarning):
        thin = fit(FORMULAS[1], data[data.groupby("unit").cumcount() % EVERY == 0])
    recovered, measured = recovery(found.drawn), violated(n, seed)
    figures = _figures(found.full, thin, measured)
    files = write_figures(figures, directory)
    tables = {
        "article.csv": data,
        "recovery.csv": recovered.rename_axis("parameter").reset_index(),
        "coverage.csv": measured,
    }
    for name, table in tables.items():
        write_csv(directory / name, table)
    told = {
        **_versions(len(found.drawn), seed),
        **_told_of_data(data),
        **_told_of_fits(found),
        **_told_of_truth(found, recovered),
        **_told_of_units(found.full, thin),
        **_told_of_violations(measured),
        **{f"{name}_figure": _figure(directory / f"{name}.png") for name in figures},
    }
    template = resources.files("jaxhlm.cli").joinpath("companion.html").read_text("utf-8")
    page = directory / PAGE
    write_text(page, Template(template).substitute(told))
    return [page, *(directory / name for name in tables), *files]


def _versions(drawn: int, seed: int) -> dict[str, str]:
    names = ("jaxhlm", "numpy", "jax")
    found = dict(zip(("version", *names[1:]), versions(names).values(), strict=True))
    command = f"jaxhlm article --replicates {drawn} --seed {seed} --out DIR"
    return {**found, "python": platform.python_version(), "command": command}


def _told_of_data(data: pd.DataFrame) -> dict[str, Any]:
    sizes = data.groupby("unit").size()
    return {
        "rows": len(data),
        "units": len(sizes),
        "each": sizes.max(),
        "head": _table(data.head(), "{:.3f}"),
        **{f"{x}_low": _number(data[x].min(), 2) for x in ("x", "a")},
        **{f"{x}_high": _number(data[x].max(), 2) for x in ("x", "a")},
    }


def _told_of_fits(found: Refitted) -> dict[str, Any]:
    """Tables of both models, and how they differ."""
    lines, full = found.lines, found.full
    small, large = (np.diag(one.varcorr.cov) for one in (lines, full))
    test = full.anova(lines).table.iloc[-1]
    printed = comparison(full, PRINTED[1]).rename_axis("quantity").reset_index()
    return {
        "p": len(full.fixef),
        "lines_table": html.escape(str(lines)),
        "full_table": html.escape(str(full.summary("satterthwaite"))),
        "symbols": _symbols(full),
        "lines_sd_x": _number(np.sqrt(small[1]), 3),
        "printed_lines_aic": PRINTED[0]["AIC"][0],
        "lines_aic": _number(lines.aic, 1),
        "height_share": _percent(1.0 - large[0] / small[0]),
        "slope_share": _percent(1.0 - large[1] / small[1]),
        **{f"lines_var_{k}": _number(v, 4) for k, v in zip("0x", small, strict=True)},
        **{f"full_var_{k}": _number(v, 4) for k, v in zip("0x", large, strict=True)},
        "chisq": _number(test["Chisq"], 2),
        "chi_df": int(test["Df"]),
        "chi_p": f"{test['Pr(>Chisq)']:.2g}",
        "printed": _table(printed, "{}"),
    }


def _symbols(full: Fit) -> str:
    """Where every parameter of the derivation is in the formula and in the table of the fit."""
    s = "<i>{}</i><sub>{}</sub>".format
    symbols = [
        s("γ", "0"), s("γ", "x"), s("γ", "a"), s("γ", "xa"), s("τ", "0"), s("τ", "x"),
        "<i>ρ</i>", "<i>σ</i>",
    ]  # fmt: skip
    meaning = [
        "height where x and a are 0", "slope where a is 0", "height, per unit of a",
        "slope, per unit of a", "sd of heights, given a", "sd of slopes, given a",
        "correlation of the two", "sd of rows about their line",
    ]  # fmt: skip
    formula = ["1", "x", "a", "x:a", "1 |", "x |", "1 + x |", "understood"]
    truth = true_values(full.model)
    columns = {"symbol": symbols, "what it is": meaning, "in the formula": formula,
               "in the tables": truth.index}  # fmt: skip
    return _table(pd.DataFrame(columns), "{}", escape=False, kind="left")


def _told_of_truth(found: Refitted, recovered: pd.DataFrame) -> dict[str, Any]:
    """Estimates with limits beside the truth, of one data set and of many."""
    full, drawn = found.full, found.drawn
    truth = true_values(full.model)
    limits = full.confint("profile")
    random = ["sd_(Intercept)|unit", "sd_x|unit", "cor_x.(Intercept)|unit", "sigma"]
    low, high = limits.loc[[*full.fixef.index, *random]].to_numpy().T
    estimate = [*full.fixef, *full.varcorr.sd, full.varcorr.corr.iloc[0, 1], full.sigma]
    held = (low <= truth) & (truth <= high)
    one = pd.DataFrame({"truth": truth, "estimate": estimate, "2.5 %": low, "97.5 %": high}).assign(
        holds=np.where(held, "yes", "no")
    )
    return {
        "height": _line(truth["(Intercept)"], truth["a"]),
        "slope": _line(truth["x"], truth["x:a"]),
        "estimates": _table(one.rename_axis("parameter").reset_index(), "{:.3f}"),
        "inside": int(held.sum()),
        "parameters": len(truth),
        "drawn": f"{len(drawn):,}",
        "recovery": _table(recovered.rename_axis("parameter").reset_index(), "{:z.4f}"),
        "singular": _percent(drawn.singular.mean()),
    }


def _told_of_units(full: Fit, thin: Fit) -> dict[str, Any]:
    """How far a unit's own line and its prediction are from its true line, in theory."""
    Z = full.design.Z[full.design.group == 0]
    own = full.sigma * np.sqrt(np.diag(np.linalg.inv(Z.T @ Z)))
    rows = {
        "random coefficient": ["height", "slope"],
        "sd between units": np.sqrt(np.diag(full.varcorr.cov)),
        "error of own line (sd)": own,
        "error of prediction (sd)": np.sqrt(np.diag(full.ranef_cov[0])),
        "reliability": np.diag(full.reliability[0]),
    }
    each = thin.nobs // thin.ngroups
    return {"errors": _table(pd.DataFrame(rows), "{:z.4f}"), "thin_each": each}


def _told_of_violations(measured: pd.DataFrame) -> dict[str, Any]:
    """The table of coverage, and its extremes by kind of violation."""
    known = zip(measured["coverage"], measured["coverage_mcse"], strict=True)
    cells = measured.assign(cell=[with_mcse(value, mcse, 3) for value, mcse in known])
    table = cells.pivot(index=["condition", "violated", "method"], columns="term", values="cell")
    methods = [method.name for method in METHODS]
    table = table[measured["term"].unique()].reindex(methods, level="method").reset_index()
    table = table.drop(columns="condition").rename_axis(columns=None)
    table["violated"] = table["violated"].where(~table["violated"].duplicated(), "")
    by = measured.set_index(["violated", "method", "term"]).sort_index()
    confounded, curved = ((name, FULL) for name in MEANS)
    return {
        "sets": f"{measured['n'].max():,}",
        "conditions": measured["violated"].nunique(),
        "distributions": len(DISTRIBUTIONS),
        "mcse": f"{np.sqrt(0.95 * 0.05 / measured['n'].max()):.3f}",
        "coverage": _table(table, "{}", kind="text"),
        "texts": 2,
        **_range("distributions", by.loc[(list(DISTRIBUTIONS), FULL, slice(None)), "coverage"]),
        **_range("intercepts", by.loc[(NOTHING, INTERCEPTS, list(SLOPES)), "coverage"]),
        **_range("robust", by.loc[(NOTHING, ROBUST, list(SLOPES)), "coverage"]),
        "confounded": _percent(by.loc[(*confounded, "x:a"), "coverage"]),
        "confounded_bias": _number(by.loc[(*confounded, "x:a"), "bias"], 2),
        "curved": _percent(by.loc[(*curved, "(Intercept)"), "coverage"]),
        "curved_bias": _number(by.loc[(*curved, "(Intercept)"), "bias"], 2),
        "curved_xa": _percent(by.loc[(*curved, "x:a"), "coverage"]),
    }


def _range(name: str, values: Iterable[float]) -> dict[str, str]:
    found = np.asarray([*values])
    return {f"{name}_low": f"{found.min():.3f}", f"{name}_high": f"{found.max():.3f}"}


def _figures(full: Fit, thin: Fit, measured: pd.DataFrame) -> dict[str, Figure]:
    """The article's figures, and those of what it left open."""
    from jaxhlm import plot
    from jaxhlm.plot.canvas import canvas

    slope = measured[measured["term"] == SLOPES[1]]
    with canvas(None, 4.2, 7.0) as axes:
        plot.lollipop(slope, "coverage", rows="violated", ax=axes)
    return article_figures(full, thin) | {"coverage": axes.figure}


CAPTIONS = {
    "lines": (
        "one",
        "Every unit's line as the model predicts it, over its rows; the colour is its a.",
    ),
    "units": (
        "two",
        "What the lines do with a: heights on the left, slopes on the right. Points are units; the "
        "solid line is fitted, the dashed one is the truth.",
    ),
    "shrinkage": (
        "two",
        "From every unit's own least-squares line to its prediction; a cross is what its a makes "
        "likely.",
    ),
    "coverage": (
        "two",
        "Coverage of 95 % intervals for x:a, with 95 % Monte-Carlo limits, by what is violated.",
    ),
}


def _figure(png: Path) -> str:
    """A figure with its caption, the picture inside the page."""
    kind, caption = CAPTIONS[png.stem]
    picture = b64encode(png.read_bytes()).decode()
    told = html.escape(caption)
    return (
        f'<figure><div class="wide"><img class="{kind}" alt="{told}" '
        f'src="data:image/png;base64,{picture}"></div><figcaption>{told} '
        f'(<a href="{png.stem}.pdf">PDF</a>)</figcaption></figure>'
    )


def _table(frame: pd.DataFrame, number: str, escape: bool = True, kind: str = "") -> str:
    made = frame.to_html(
        index=False, border=0, float_format=number.format, na_rep="", escape=escape,
        classes=kind or None, justify="unset",
    )  # fmt: skip
    return f'<div class="wide">{made}</div>'


def _line(level: float, slope: float) -> str:
    return f"{level:g} {'−' if slope < 0 else '+'} {abs(slope):g}<i>a</i>"


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("-", "−")


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
