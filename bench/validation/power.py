"""Power and sample size as simr users need them: ``python -m bench.validation.power``.

The article's design with 10 to 55 units, 10,000 data sets each, the interaction tested with
Satterthwaite's degrees of freedom; and one of the sizes again by lmerTest in R, if it is there.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

import jaxhlm as hlm
from bench import machine
from bench.data import ARTICLE, TRUTH

SCRIPT = Path(__file__).with_suffix(".R")
SIZES, CHECKED = range(10, 60, 5), 20


def by_lmertest(n: int, seed: int) -> dict[str, float]:
    """Rejections among n data sets of the article's truth on 20 units, by R."""
    frame = hlm.extend(hlm.load_dataset("article"), along="unit", n=CHECKED)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        frame.to_csv(path, index=False)
        command = ["Rscript", str(SCRIPT), str(path), str(n), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Print the curve, the time it took, and how far R's power is from ours; write the powers."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation.power", description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="data sets per size")
    parser.add_argument("--peer", type=int, default=500, help="data sets for R")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder of the CSV file")
    arguments = parser.parse_args()
    console = Console()
    mechanism = hlm.mechanism(f"y {ARTICLE}", hlm.load_dataset("article"), TRUTH)
    started = time.perf_counter()
    curve = hlm.power_curve(mechanism, "x:a", "units", list(SIZES), arguments.n, seed=1)
    seconds = time.perf_counter() - started
    console.print(curve.to_string(index=False, float_format="%.4f"))
    console.print(f"{len(SIZES)} sizes × {arguments.n:,}: {seconds:.1f} s, compilation included")
    table = curve.assign(by="jaxhlm")
    if shutil.which("Rscript"):
        peer = by_lmertest(arguments.peer, seed=1)
        theirs = peer["rejected"] / peer["n"]
        error = float(np.sqrt(theirs * (1 - theirs) / peer["n"]))
        ours = curve.set_index("units").loc[CHECKED]
        console.print(
            f"{CHECKED} units by lmerTest: {theirs:.4f} of {peer['n']:,} data sets in "
            f"{peer['seconds']:.1f} s; here {ours['power']:.4f}, apart "
            f"{abs(theirs - ours['power']) / np.hypot(ours['mcse'], error):.1f} MCSE"
        )
        row = {"units": CHECKED, "test": "x:a", "power": theirs, "mcse": error, "by": "lmerTest"}
        counts = {name: peer[name] for name in ("rejected", "n")}
        table = pd.concat([table, pd.DataFrame([row | counts])], ignore_index=True)
    path = machine.results_path(arguments.out, machine.describe(), "power")
    table.to_csv(path, index=False, float_format="%.6g")
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
