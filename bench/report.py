"""Measured numbers beside what they had to be: as a table, and as a file."""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

__all__ = ["Result", "judged", "table", "write"]

EXCESS = 1e-6


@dataclass(frozen=True)
class Result:
    """One measured number and what it had to be."""

    workload: str
    measure: str
    value: float
    target: str = ""
    met: str = ""


def judged(
    workload: str, measure: str, value: float, targets: Mapping[str, tuple[str, float]]
) -> Result:
    """A result beside its target of ``targets``; an answer that is not right is WRONG."""
    if (measure == "failed" and value > 0.0) or (measure == "excess" and not value <= EXCESS):
        return Result(workload, measure, value, "0" if measure == "failed" else "<= 1e-6", "WRONG")
    if measure not in targets:
        return Result(workload, measure, value)
    sign, bound = targets[measure]
    met = value >= bound if sign == ">=" else value <= bound
    return Result(workload, measure, value, f"{sign} {bound:g}", "yes" if met else "no")


def table(results: list[Result]) -> Table:
    """All results as one printed table."""
    out = Table("workload", "measure", "value", "target", "met")
    previous = None
    for r in results:
        if r.workload != previous:
            out.add_section()
        shown = (
            "" if r.value != r.value else f"{r.value:,.4g}" if r.value < 1e4 else f"{r.value:,.0f}"
        )
        out.add_row(r.workload if r.workload != previous else "", r.measure, shown, r.target, r.met)
        previous = r.workload
    return out


def write(results: list[Result], path: Path) -> None:
    """Write one row per result."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(results[0])))
        writer.writeheader()
        writer.writerows(asdict(r) for r in results)
