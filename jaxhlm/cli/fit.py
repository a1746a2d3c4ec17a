"""The command ``jaxhlm fit``: one data set, replicates, or many responses tested and ranked."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from jaxhlm.cli.commands import add_command, add_model, add_option, add_out
from jaxhlm.cli.figures import figure_folder, fit_figures, test_figures, write_figures
from jaxhlm.cli.samples import Samples, read_samples
from jaxhlm.core.arguments import fraction, whole_number
from jaxhlm.core.document import Block, as_text, framed
from jaxhlm.core.files import read_table
from jaxhlm.core.status import status_names
from jaxhlm.core.written_tables import DOCUMENTS, check_table_target, write_table
from jaxhlm.errors import (
    ConvergenceWarning,
    OptionError,
    SingularFitWarning,
    muted,
    warn_user,
)
from jaxhlm.estimation.model import Model
from jaxhlm.fitting.fit import fit
from jaxhlm.fitting.many import fit_source
from jaxhlm.inference.contrast_tests import METHOD_NAMES, DfMethod
from jaxhlm.inference.multiplicity import Adjustment
from jaxhlm.inference.parameters import choose, parameters, position
from jaxhlm.optimise.options import Options
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.fit import Fit
from jaxhlm.results.named_contrasts import named_hypothesis, requested_tests, top
from jaxhlm.results.summaries import batch_heading
from jaxhlm.sources.given import fit_input
from jaxhlm.sources.inputs import Input

__all__ = ["add_fit"]

DESCRIPTION = """\
One data set:      jaxhlm fit "y ~ x + (1 + x | unit)" data.csv
Replicates:        jaxhlm fit "y ~ x + (1 | unit)" data.csv --by replicate
Many responses:    jaxhlm fit "~ dose * time + (1 | subject)" --samples samples.csv \\
                     --responses expression.parquet --contrast "early=dosehigh" --out table.parquet
"""
Interval = Literal["wald", "profile"]
# What is about many responses only, about one fit only, and about any batch.
OF_RESPONSES = ("samples", "responses_in", "layer", "id")
OF_ONE = ("ci", "level")
OF_BATCHES = ("moderate", "trend", "adjust", "top", "fdr")


def add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add it to the command line.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returns.
    """
    command = add_model(
        add_command(commands, "fit", "fit a model to a file, or to many responses", DESCRIPTION),
        "data",
        nargs="?",
    )
    command.add_argument(
        "--weights", metavar="COLUMN", help="column of weights; with --responses also a file"
    )
    command.add_argument("--by", metavar="COLUMN", help="fit every value of this column apart")
    methods = (*get_args(DfMethod), "none")
    add_option(command, "--df", "satterthwaite", "degrees of freedom of p values", choices=methods)
    command.add_argument(
        "--contrast",
        action="append",
        metavar="NAME=EXPR",
        help='test a combination of terms: "early=dosehigh - doselow"; repeat for more',
    )
    command.add_argument(
        "--ci",
        choices=get_args(Interval),
        help="confidence intervals of one fit, printed and in --out: of all parameters by profile, "
        "or Wald's of the fixed effects",
    )
    command.add_argument(
        "--level", type=float,
        help="of the confidence intervals of one fit, those of --out and --json too (0.95)",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print one fit as JSON")
    add_out(command, "also write the table")
    command.add_argument(
        "--plot", type=Path, metavar="DIR",
        help="draw one fit (diagnostics, random effects, lines of 12 units), or what is tested of "
        "many: figures as PDF and PNG",
    )  # fmt: skip
    _add_responses(command.add_argument_group("many responses on one design"))
    _add_tests(command.add_argument_group("tests of many fits"))
    command.set_defaults(run=_fit)


def _add_responses(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--responses", type=Path, metavar="FILE",
        help=".parquet, .npy, .h5ad, .zarr, .csv, .tsv, .feather, .xlsx; a column for each",
    )  # fmt: skip
    group.add_argument(
        "--samples", type=Path, metavar="FILE", help="their table, a row for every sample"
    )
    group.add_argument(
        "--responses-in",
        choices=("columns", "rows"),
        help="whether a response is a column or a row (columns)",
    )
    group.add_argument("--layer", help="layer of an .h5ad file that holds the responses")
    group.add_argument(
        "--id", metavar="COLUMN",
        help="of the samples' names; by default the one that holds those of the responses",
    )  # fmt: skip


def _add_tests(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--moderate",
        action="store_true",
        default=None,
        help="let fits share what they know of residual variances",
    )
    group.add_argument(
        "--trend",
        action="store_true",
        default=None,
        help="with --moderate: along the mean response",
    )
    group.add_argument(
        "--adjust",
        choices=get_args(Adjustment),
        help="how p values are adjusted for their number (BH)",
    )
    group.add_argument(
        "--fdr", type=float, help="adjusted p value below which tests are counted (0.05)"
    )
    group.add_argument("--top", type=int, metavar="N", help="how many tests are printed (20)")


def _fit(a: argparse.Namespace) -> None:
    contrasts = _contrasts(a.contrast)
    _check(a)
    result = _fitted(a, contrasts)
    printed: list[Block] | None = None
    if isinstance(result, Fit):
        table, printed = _told_one(a, result, contrasts)
    elif _tested(a, contrasts, result.model):
        table = _told_tests(a, result, contrasts)
    else:
        print(result)
        table = _tidy(a, result)
    if a.out:
        write_table(a.out, table, printed)
        if not a.json:
            print(f"\nTable of {len(table):,} rows written to {a.out}")
    if a.plot:
        drawn = fit_figures(result) if isinstance(result, Fit) else test_figures(table, _level(a))
        write_figures(drawn, a.plot)
        if not a.json:
            print(f"\n{len(drawn)} figures written to {a.plot}")


def _check(a: argparse.Namespace) -> None:
    """Refuse what cannot be before anything is read.

    Raises:
        OptionError: options that do not go together.
        FileError: a file that cannot be written.
    """
    if a.out:
        check_table_target(a.out)
    many = a.responses is not None
    if a.file and many and a.samples:
        raise OptionError(f"{a.file} and --samples {a.samples}: give the samples once")
    if not (a.file or many):
        raise OptionError("give the file of the data, or --responses and --samples")
    if many and a.by:
        raise OptionError("give either --responses or --by")
    _refuse(a, OF_RESPONSES if not many else (), "--responses")
    _refuse(a, OF_BATCHES if not (many or a.by) else (), "--responses or --by")
    if (many or a.by) and (wrong := _given(a, OF_ONE)):
        raise OptionError(f"--{wrong[0]} is of one fit: leave --responses and --by out")
    fraction("--level", _confidence(a))
    if a.json and (many or a.by):
        raise OptionError("--json prints one fit: write the table of many with --out")
    if a.trend and not a.moderate:
        raise OptionError("--trend goes with --moderate")
    if a.moderate and a.df == "residual":
        raise OptionError(
            "--df residual does not count what --moderate adds: leave one of them out"
        )
    if a.ml and a.df == "kenward-roger":
        raise OptionError("--df kenward-roger is for REML fits: leave --ml out, or take another")
    if a.df == "none" and (a.contrast or any(_given(a, OF_BATCHES))):
        raise OptionError("--df none has no tests, which the other options ask for")
    whole_number("--top", 20 if a.top is None else a.top)
    fraction("--fdr", _level(a), 0.05)
    if a.ci and a.contrast and a.out and a.out.suffix.lower() not in DOCUMENTS:
        raise OptionError(
            f"{a.out} would hold the contrasts without the limits of --ci: leave one of them out, "
            f"or write {', '.join(DOCUMENTS)}, which hold what is printed"
        )
    if a.plot:
        figure_folder(a.plot)


def _given(a: argparse.Namespace, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(a, name) is not None]


def _refuse(a: argparse.Namespace, names: Sequence[str], without: str) -> None:
    if wrong := _given(a, names):
        raise OptionError(f"--{wrong[0].replace('_', '-')} goes with {without}")


def _contrasts(given: Sequence[str] | None) -> dict[str, str] | None:
    """Contrasts by name; what has none is called by what it says.

    >>> _contrasts(["early=dosehigh - doselow", "x:time"])
    {'early': 'dosehigh - doselow', 'x:time': 'x:time'}
    """
    if given is None:
        return None
    found: dict[str, str] = {}
    for text in given:
        name, equals, row = (part.strip() for part in text.partition("="))
        if not name or (equals and (not row or _is_number(row))):
            raise OptionError(f"--contrast {text!r}: give NAME=EXPR, such as early=dosehigh")
        if name in found:
            raise OptionError(f"--contrast {name!r} is given twice; name them apart")
        found[name] = row or name
    return found


def _is_number(text: str) -> bool:
    """Whether what follows the first "=" is the value of a hypothesis that was given no name."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fitted(a: argparse.Namespace, contrasts: dict[str, str] | None) -> Fit | FitBatch:
    """One fit, or many, whose contrasts are read before they are made."""
    if a.responses is None and a.by is None:
        with muted(SingularFitWarning):  # what is printed says so
            return fit(a.formula, read_table(a.file), reml=not a.ml, weights=a.weights)
    given = _input(a)
    if _tested(a, contrasts, given.model):
        requested_tests(given.model, contrasts, *_how(a))
    elif a.plot:
        raise OptionError("--plot draws one fit, or tests of many: give --contrast")
    with muted(ConvergenceWarning):
        fits = fit_source(*given, Options(not a.ml, given.model.blocks), None)
    if failed := len(fits) - int(fits.ok.sum()):
        column = "column 'status' of the table that --out writes"
        told = f"{failed:,} of {len(fits):,} fits failed: {column} tells which"
        warn_user(told, ConvergenceWarning)
    return fits


def _input(a: argparse.Namespace) -> Input:
    """The data sets of ``--by`` or ``--responses``."""
    if a.responses is None:
        return fit_input(a.formula, read_table(a.file), None, a.by, a.weights, not a.ml)
    rows = (a.responses_in or "columns") == "rows"
    given: Samples = read_samples(a.file or a.samples, a.responses, a.weights, rows, a.layer, a.id)
    return fit_input(
        a.formula, given.table, given.responses, None, given.weights, not a.ml,
        responses_in="rows" if rows else "columns", layer=a.layer,
    )  # fmt: skip


def _tested(a: argparse.Namespace, contrasts: dict[str, str] | None, model: Model) -> bool:
    """Whether fits are tested: there is something to test, and it is asked for."""
    wanted = a.responses is not None or bool(_given(a, OF_BATCHES))
    some = wanted and any(name != "(Intercept)" for name in model.xnames)
    return a.df != "none" and (bool(contrasts) or some)


def _how(a: argparse.Namespace) -> tuple[DfMethod, bool, bool, bool, Adjustment]:
    """How many fits are tested: df, moderate, trend, robust, adjust."""
    return a.df, bool(a.moderate), bool(a.trend), False, a.adjust or "BH"


def _level(a: argparse.Namespace) -> float:
    """Of the adjusted p values."""
    return 0.05 if a.fdr is None else a.fdr


def _confidence(a: argparse.Namespace) -> float:
    """Level of the intervals of one fit."""
    return 0.95 if a.level is None else a.level


def _tidy(a: argparse.Namespace, result: Fit | FitBatch) -> pd.DataFrame:
    if a.df != "none":
        table = result.tidy(a.df, _confidence(a))
    else:
        table = result.tidy("normal", _confidence(a)).drop(columns=["df", "p_value"])
    if isinstance(result, FitBatch):
        each = len(table) // max(len(result), 1)
        table["status"] = np.repeat(status_names(result.status), each)
    return table


def _told_one(
    a: argparse.Namespace, one: Fit, contrasts: dict[str, str] | None
) -> tuple[pd.DataFrame, list[Block]]:
    """Print one fit; gives its tidy table, or that of contrasts, and what documents show."""
    told = table = _tidy(a, one)
    printed = [*one.summary(None if a.df == "none" else a.df)._blocks()]
    intervals = one.confint(a.ci, _confidence(a)) if a.ci else None
    if intervals is not None:
        how = "profile" if a.ci == "profile" else "Wald"
        head = f"Confidence intervals ({how}, {100 * _confidence(a):g} %):"
        printed.append([head, framed(intervals.reset_index(), ".4g", index=False)])
        table = _with_limits(told, one.model, intervals)
    if contrasts:
        asked = named_hypothesis(one.model, contrasts)
        told = one.contrast(asked.L, a.df, asked.rhs, conf_level=_confidence(a))
        if asked.rhs.any():
            told.insert(1, "null", asked.rhs)
        told = table = told.set_axis([*asked.labels], axis=0).rename_axis("contrast").reset_index()
        printed.append(["Contrasts:", framed(told, ".4g", index=False)])
    print(_json(one, told, intervals) if a.json else as_text(printed))
    return table, printed


def _with_limits(table: pd.DataFrame, model: Model, intervals: pd.DataFrame) -> pd.DataFrame:
    """A tidy table with other limits, of the parameters that they are of."""
    of = choose(parameters(model), [*intervals.index])
    limits = np.full((len(table), 2), np.nan)
    limits[[position(model, parameter) for parameter in of]] = intervals
    return table.assign(conf_low=limits[:, 0], conf_high=limits[:, 1])


def _json(one: Fit, table: pd.DataFrame, intervals: pd.DataFrame | None) -> str:
    """A fit for other programs: its formula, the columns of ``glance``, and tables by rows."""
    (glance,), rows = _records(one.glance()), _records(table)
    told = {"formula": one.model.formula, **glance, "table": rows}
    if intervals is not None:
        limits = intervals.set_axis(["conf_low", "conf_high"], axis=1)
        told["confint"] = _records(limits.reset_index())
    return json.dumps(told, indent=2)


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Rows as JSON has them: every digit, and null for what is missing or infinite."""
    known = frame.notna() & ~frame.isin([np.inf, -np.inf])
    return frame.astype(object).where(known, None).to_dict("records")


def _told_tests(
    a: argparse.Namespace, fits: FitBatch, contrasts: dict[str, str] | None
) -> pd.DataFrame:
    """Print what became of the fits, how much was found, and the first of it; gives all tests."""
    df, moderate, trend, _, adjust = _how(a)
    level = _level(a)
    table = fits.test(contrasts, df=df, moderate=moderate, trend=trend, adjust=adjust)
    print(batch_heading(fits.record))
    how = f"Tests by {METHOD_NAMES[df]}"
    how += ", residual variances moderated" + " along their trend" * trend if moderate else ""
    print(f"\n{how}; p values adjusted by {adjust}:")
    by_contrast = table.groupby("contrast", sort=False)
    found = by_contrast["p_adjusted"].agg(tested="count", found=lambda p: int((p < level).sum()))
    found = found.rename(columns={"found": f"p_adjusted < {level:g}"}).reset_index()
    print(framed(found, ".4g", index=False))
    first = top(table, 20 if a.top is None else a.top, None)
    columns = [name for name in first if name not in ("conf_low", "conf_high", "status")]
    shown = framed(first[columns], ".4g", index=False)
    print(f"\nThe {len(first)} smallest p values:\n{shown}")
    return table
