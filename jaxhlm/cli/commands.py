"""The commands ``jaxhlm power`` and ``jaxhlm study``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NoReturn, get_args

from jaxhlm.core.document import Block, as_text, framed
from jaxhlm.core.files import READ, read_table, write_csv
from jaxhlm.core.written_tables import DOCUMENTS, WRITTEN, check_table_target, write_table
from jaxhlm.design.design import design
from jaxhlm.errors import OptionError
from jaxhlm.estimation.pipeline import all_or_nothing
from jaxhlm.inference.contrast_tests import DfMethod
from jaxhlm.studies.measures_table import MeasuresTable
from jaxhlm.studies.mechanism import mechanism
from jaxhlm.studies.plan import seed_in_words
from jaxhlm.studies.power import power
from jaxhlm.studies.power_curve import power_curve, solve_power
from jaxhlm.studies.study import study
from jaxhlm.studies.studyfile import DESCRIPTION, read_study_file
from jaxhlm.studies.truth import Standardizer, Truth
from jaxhlm.studies.vary import check_relative

__all__ = [
    "Parser",
    "add_command",
    "add_commands",
    "add_devices",
    "add_model",
    "add_option",
    "add_out",
    "two_or_more",
]


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as all other errors are said."""

    def error(self, message: str) -> NoReturn:
        """End the command with the message."""
        self.exit(2, f"jaxhlm: {message}; see {self.prog} --help\n")


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help: str, more: str
) -> argparse.ArgumentParser:
    """Add a command whose ``--help`` begins with what it does and ends with ``more``."""
    return commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


POWER = """\
Once:      jaxhlm power "y ~ x * a + (1 + x | unit)" design.csv --beta 1,3,-0.15,0.3 \\
             --sd 0.2,0.5 --corr 0.9 --sigma 0.75 --test x:a
Sizes:     … --beta "(Intercept)=1,x=3" --d a=0.5 --d-sd total --partial-r2 x:a=0.25
A curve:   … --along units --values 10,20,30
A search:  … --target 0.8 --bounds 6,200
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both to the command line.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returns.
    """
    command = add_model(
        add_command(commands, "power", "power of a test on a design, by simulation", POWER),
        "the design",
    )
    command.add_argument(
        "--beta",
        type=_beta,
        help='"1,3,-0.15,0.3", or "x=3,a=0,…" with all terms; --beta=-1,3 if the first is negative',
    )
    command.add_argument(
        "--d", type=_by_term, help='terms as Cohen\'s d in place of --beta: "a=0.5,x:a=0.4"'
    )
    command.add_argument(
        "--d-sd", choices=get_args(Standardizer),
        help="what --d multiplies: sigma, the standard deviation of intercepts, or that of both",
    )  # fmt: skip
    command.add_argument(
        "--partial-r2",
        type=_by_term,
        help='terms as partial R² on the design, in place of --beta: "x:a=0.02"',
    )
    command.add_argument(
        "--sd",
        required=True,
        type=_numbers,
        help="standard deviations of the random effects: 0.2,0.5",
    )
    add_option(command, "--corr", 0.0, "correlation of two random effects")
    command.add_argument("--sigma", required=True, type=float, help="residual standard deviation")
    command.add_argument(
        "--test",
        required=True,
        action="append",
        help='what is tested, such as "x:a" or "a = 0, x:a = 0"; repeat for more',
    )
    add_option(command, "--n", 10_000, "data sets to draw")
    add_option(command, "--alpha", 0.05, "level of the test")
    add_option(
        command,
        "--df",
        "satterthwaite",
        "degrees of freedom of the test",
        choices=get_args(DfMethod),
    )
    command.add_argument("--seed", type=int, help="seed of the draws")
    command.add_argument(
        "--along",
        help="what changes: units (default), measurements, sigma, corr, beta[TERM], sd[TERM]",
    )
    command.add_argument("--values", type=_numbers, help="a power curve at these: 10,20,30")
    command.add_argument("--target", type=float, help="find the smallest value with this power")
    command.add_argument(
        "--bounds",
        type=_numbers,
        default=[4, 1000],
        help="where --target is looked for (default: 4,1000)",
    )
    add_devices(command)
    add_out(command, "also write the table")
    command.set_defaults(run=_power)

    command = add_command(
        commands,
        "study",
        "run a simulation study described in a TOML file",
        f"Example:  jaxhlm study study.toml --out results\n\n{DESCRIPTION}",
    )
    command.add_argument("file", type=Path, help="the study, .toml, as below")
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the results"
    )
    command.add_argument("--resume", action="store_true", help="go on with what DIR holds")
    add_devices(command)
    command.set_defaults(run=_study)


def add_model(
    command: argparse.ArgumentParser, file: str, **options: Any
) -> argparse.ArgumentParser:
    """Add what every command about one model takes, ``file`` being what its rows are."""
    command.add_argument("formula", help='such as "y ~ x * a + (1 + x | unit)"')
    command.add_argument("file", type=Path, help=f"{file}, {READ}", **options)
    command.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    return command


def add_devices(command: argparse.ArgumentParser) -> None:
    """Add what every command takes that draws and fits many data sets of one design."""
    command.add_argument("--devices", type=int, metavar="N", help="fit on N of JAX's devices")


def add_out(command: argparse.ArgumentParser, what: str) -> None:
    """Add ``--out``, the file of a table, which ``write_table`` writes by its ending."""
    told = f"{what}: {', '.join(WRITTEN)}, or as printed: {', '.join(DOCUMENTS)}"
    command.add_argument("--out", type=Path, metavar="FILE", help=told)


def add_option(
    command: argparse.ArgumentParser, name: str, default: Any, help: str, **options: Any
) -> None:
    """Add an option whose help says its default, which is of its type unless that is given."""
    options = {"type": type(default), **options}
    command.add_argument(name, default=default, help=f"{help} (default: %(default)s)", **options)


def _power(a: argparse.Namespace) -> None:
    if a.out:
        check_table_target(a.out)
    if a.beta is None and a.d is None and a.partial_r2 is None:
        raise OptionError("give the fixed effects by --beta, some of them by --d or --partial-r2")
    check_relative(a.along or "units", a.d and a.d_sd, a.partial_r2 is not None)
    frame, beta = read_table(a.file), {} if a.beta is None else a.beta
    on = None if a.partial_r2 is None and a.d is None else design(a.formula, frame)
    truth = Truth.of(beta, a.sd, a.corr, a.sigma, a.d, a.d_sd, a.partial_r2, on)
    made = mechanism(a.formula, frame, truth)
    options = {"n": a.n, "alpha": a.alpha, "df": a.df, "seed": a.seed, "reml": not a.ml}
    options["devices"] = a.devices
    printed: list[Block]
    if a.target is not None:
        if a.values is not None:
            raise OptionError("give either --values or --target")
        if len(a.test) > 1 or len(a.bounds) != 2:
            raise OptionError("--target needs one --test and two --bounds")
        found = solve_power(
            made, a.test[0], a.target, a.along or "units", tuple(a.bounds), **options
        )
        printed, table = found._blocks(), found.curve
    elif a.values is not None:
        table = power_curve(made, a.test, a.along or "units", a.values, **options)
        printed = [[framed(table, index=False), seed_in_words(a.n, table.attrs["seed"])]]
    elif a.along is not None:
        raise OptionError("--along needs --values or --target")
    else:
        one = power(made, a.test, **options)
        printed, table = one._blocks(), one.table
    print(as_text(printed))
    if a.out:
        write_table(a.out, table, printed)
        print(f"\nTable written to {a.out}")


def _study(a: argparse.Namespace) -> None:
    try:
        _run_study(a)
    except KeyboardInterrupt:
        if not (a.out / "manifest.json").exists():
            raise
        finished = f"; what is finished is in {a.out}: go on with --resume"
        raise KeyboardInterrupt(finished) from None


def _run_study(a: argparse.Namespace) -> None:
    file = read_study_file(a.file)
    with all_or_nothing():
        result = study(
            file.conditions, file.mechanism, file.methods,
            out=a.out, resume=a.resume, devices=a.devices, **file.options,
        )  # fmt: skip
    print(result)
    table = result.measures()
    write_csv(a.out / "measures.csv", table)
    print(f"\n{MeasuresTable(table)}")
    print(
        f"\nMeasures written to {a.out / 'measures.csv'}; all of it: jaxhlm.read_study('{a.out}')"
    )


def two_or_more(text: str) -> int:
    """A number of data sets, as argparse reads it."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 2 or more")
    return int(text)


def _numbers(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers with commas between")
    return [int(value) if value == int(value) else value for value in values]


def _beta(text: str) -> list[float] | dict[str, float]:
    return _by_term(text) if "=" in text else _numbers(text)


def _by_term(text: str) -> dict[str, float]:
    """Values by the names of their terms.

    >>> _by_term("bs(t, df=4)1=0.5,cut(x)[(0, 1]]=2")
    {'bs(t, df=4)1': 0.5, 'cut(x)[(0, 1]]': 2.0}
    """
    pairs = [part.rpartition("=") for part in _separate(text)]
    try:
        named = {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        named = {}
    if not named or "" in named:
        raise argparse.ArgumentTypeError(f"{text!r}: give x=3,a=0 and so on")
    if len(named) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r}: give every term once")
    return named


def _separate(text: str) -> list[str]:
    """Text cut at its commas, but not at those of names: in brackets, or with no "=" before them.

    Brackets are counted, not matched: intervals are half open, as in cut(x)[(0, 1]].

    >>> _separate("poly(t, 2)1=1,cityYork, UK=2")
    ['poly(t, 2)1=1', 'cityYork, UK=2']
    """
    parts, depth = [""], 0
    for mark in text:
        depth = max(depth + (mark in "([{") - (mark in ")]}"), 0)
        if mark == "," and depth == 0 and "=" in parts[-1]:
            parts.append("")
        else:
            parts[-1] += mark
    return parts
