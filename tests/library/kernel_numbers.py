"""Numbers that must not depend on the BLAS kernel; run in a process of its own for each kernel.

    python kernel_numbers.py FOLDER CHUNKS

prints them as JSON, and goes on with the study in FOLDER up to so many finished chunks.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

import jaxhlm as hlm
from jaxhlm import violations as v

CHUNK, CHUNKS = 10, 4


def article():
    """Equal groups, two columns of X of equal length."""
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
    return "y ~ x * a + (1 + x | unit)", hlm.load_dataset("article").drop(columns="y"), truth


def factors():
    """Unequal groups, and factors: contrasts whose covariance has equal eigenvalues."""
    arms = {"arm": list("abc"), "sex": list("mf")}
    sizes, grid = [3, 4, 5, 5] * 6, {"x": range(5)}
    frame = hlm.units(n=24, measurements=sizes, within=grid, factors=arms).frame()
    truth = hlm.Truth.of(np.arange(8.0), [1.0, 0.5], 1.0, 1.0)
    return "y ~ x * (arm + sex) + (1 + x | unit)", frame, truth


def drawn(formula, rows, truth):
    """Numbers of data sets drawn on one design."""
    design = hlm.design(formula.removeprefix("y"), rows)
    fits = hlm.simulate(design, truth, 5, seed=1).fit(progress=False)
    yield "estimates", fits.fixef
    yield "variances", fits.varcorr.cov
    # Of contrasts whose covariance has equal eigenvalues.
    yield "joint test", fits.joint_test(np.eye(len(design.xnames))[1:])
    yield "rows", hlm.simulate(design, truth, 3, seed=1, statistics=False).rows()


def resampled(formula, rows, truth):
    """Numbers of a fit of two random effects to many equal groups."""
    design = hlm.design(formula.removeprefix("y"), rows)
    Y = hlm.simulate(design, truth, 1, seed=1, statistics=False).rows()
    fit = hlm.fit(formula, rows.assign(y=Y[:, 0]))
    yield "bootstrap", hlm.bootstrap(fit, 3, "residual", seed=1, progress=False).fits.fixef
    yield "dependent rows", fit.joint_test(["a = 0", "x = 0", "a + x = 0"])
    wrong = [v.EffectsFrom(v.StudentT(5)), v.MissingAtRandom("x", 0.2)]
    yield "violations", hlm.mechanism(formula, rows, truth, wrong).draw(0, 3, 1).responses
    made = hlm.mechanism(formula, rows, truth)
    yield "power", hlm.power(made, "x:a", n=1000, seed=1, progress=False).power


def resumed(folder, chunks):
    """Estimates of a study of which other processes may have done a part, and may do the rest."""
    formula, rows, truth = article()
    made = hlm.mechanism(formula, rows, truth, [v.ResidualsFrom(v.Skewed(2))])
    n = CHUNK * CHUNKS
    study = hlm.study(
        None, {"a": made}, n=n, chunk=CHUNK, seed=1, out=folder, resume=True, progress=False
    )
    for file in sorted(Path(folder).glob("estimates/*"))[chunks:]:
        file.unlink()
    return study.estimates.select_dtypes("number") if chunks == CHUNKS else []


def main(folder, chunks):
    """Print everything."""
    warnings.simplefilter("ignore")
    several = {"article": drawn(*article()), "factors": drawn(*factors())}
    several["resampled"] = resampled(*article())
    named = {
        f"{of}: {name}": np.asarray(values, dtype=float).ravel().tolist()
        for of, found in several.items()
        for name, values in found
    }
    named["study"] = np.asarray(resumed(folder, int(chunks)), dtype=float).ravel().tolist()
    json.dump({"blas": [one["architecture"] for one in threadpool_info()], "of": named}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
