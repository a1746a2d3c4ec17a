"""The command ``jaxhlm bootstrap``."""

from __future__ import annotations

import argparse
from typing import get_args

import pandas as pd

from jaxhlm.cli.commands import (
    add_command,
    add_devices,
    add_model,
    add_option,
    add_out,
    two_or_more,
)
from jaxhlm.core.document import Block, as_text, framed
from jaxhlm.core.files import read_table
from jaxhlm.core.notation import BootstrapInterval, BootstrapMethod
from jaxhlm.core.written_tables import check_table_target, write_table
from jaxhlm.fitting.bootstrap import bootstrap
from jaxhlm.fitting.fit import fit
from jaxhlm.inference.criteria import check_level

__all__ = ["add_bootstrap"]

EXAMPLE = """\
Example:  jaxhlm bootstrap "y ~ x + (1 + x | unit)" data.csv --n 5000 --method cases --seed 1
"""


def add_bootstrap(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add it to the command line.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returns.
    """
    command = add_model(
        add_command(commands, "bootstrap", "intervals by the bootstrap", EXAMPLE), "data"
    )
    methods, intervals = get_args(BootstrapMethod), get_args(BootstrapInterval)
    add_option(command, "--n", 1000, "replicates", type=two_or_more)
    add_option(command, "--method", "parametric", "what is resampled", choices=methods)
    add_option(command, "--interval", "percentile", "kind of interval", choices=intervals)
    add_option(command, "--level", 0.95, "confidence level")
    command.add_argument("--seed", type=int, help="seed of the draws")
    command.add_argument("--weights", metavar="COLUMN", help="column of prior weights")
    add_devices(command)
    add_out(command, "also write the replicates")
    command.set_defaults(run=_bootstrap)


def _bootstrap(a: argparse.Namespace) -> None:
    check_level(a.level)
    if a.out:
        check_table_target(a.out, a.n)
    result = fit(a.formula, read_table(a.file), reml=not a.ml, weights=a.weights)
    boot = bootstrap(result, a.n, a.method, a.seed, devices=a.devices)
    interval = boot.confint(a.interval, a.level)
    table = pd.concat([boot.summary()[["original", "bias", "std_error"]], interval], axis=1)
    printed: list[Block] = [[boot.heading], [framed(table)]]
    print(as_text(printed))
    if not a.out:
        return
    if a.out.suffix.lower() == ".parquet":
        # With all that ``Bootstrap.read_parquet`` needs to go on with it.
        boot.to_parquet(a.out)
    else:
        write_table(a.out, boot.replicates.reset_index(), printed)
    print(f"\nReplicates written to {a.out}")
