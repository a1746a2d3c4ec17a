"""Nominal behaviour on ten designs: ``python -m bench.validation.nominal``.

Bias of 0, standard errors that are as large as the estimates' sd, coverage of 95 %, type-I
error of 5 %: by ``hlm.study`` as a user would run it, every number beside what theory says
(``nominal_cases.py``) and its distance from that in Monte-Carlo standard errors. OFF is what lies
more than 3 beyond what theory allows. Then the article's comparison of its models 1 and 2; and some
of the same data sets by lmerTest and pbkrtest in R, if they are there.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import jaxhlm as hlm
from bench import machine
from bench.data import ARTICLE, TRUTH
from bench.validation.nominal_cases import METHODS, TWO_STAGE, Case, Claim, cases, theory

SCRIPT = Path(__file__).with_suffix(".R")
MEASURES = ("bias", "relative_error", "coverage", "type_i")
FAR, CHUNK = 3.0, 5000
COLUMNS = ["design", "method", "term", "measure", "value", "mcse", "expected", "z", "theory",
           "verdict", "singular"]  # fmt: skip
# Data sets drawn as rows are many times as dear; these checks need fewer.
OF_ROWS = 5
# n × n matrices of more rows than this take pbkrtest seconds each.
MOST_ROWS = 300
# Criteria of one minimum differ by less: lme4 stops within about 1e-6.
SAME = 1e-5
SIGNS: dict[Claim, str] = {"exact": "=", "at least": "≥", "at most": "≤", "approximate": "≈"}
MARKS = {"ok": "", "as known": " *", "shown": " *", "OFF": " OFF"}
LEGEND = (
    "value, what theory expects, (distance in MCSE); = exact, ≥ at least, ≤ at most, ≈ roughly; "
    "* further than 3 MCSE, where theory is no equation and on the side that it allows"
)
MODEL_1 = "y ~ x + (1 + x | unit)"


def judged(value: float, mcse: float, expected: float, claim: Claim) -> dict[str, object]:
    """A number beside what it had to be."""
    z = (value - expected) / mcse
    low = z < -FAR and claim in ("exact", "at least")
    high = z > FAR and claim in ("exact", "at most")
    beyond = "shown" if claim == "approximate" else "as known"
    verdict = "OFF" if low or high or np.isnan(z) else "ok" if abs(z) <= FAR else beyond
    return {
        "value": value, "mcse": mcse, "expected": expected, "z": z, "theory": claim,
        "verdict": verdict,
    }  # fmt: skip


def nominal(chosen: list[Case], methods: tuple[hlm.Method, ...], n: int, seed: int) -> pd.DataFrame:
    """One row per design, method, term and measure."""
    mechanisms, named = {c.name: c.mechanism for c in chosen}, {c.name: c for c in chosen}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "study"
        study = hlm.study(None, mechanisms, methods, n, seed, out=out, chunk=CHUNK)
        measured = study.measures(which=MEASURES)
    rows = []
    for _, found in measured.iterrows():
        name, term = found["mechanism"], found["term"]
        method = next(m for m in methods if m.name == found["method"])
        for measure in MEASURES:
            if np.isnan(found[measure]):
                continue
            wanted = theory(named[name], method, measure, term)
            one = judged(found[measure], found[f"{measure}_mcse"], *wanted)
            key = {"design": name, "method": method.name, "term": term, "measure": measure}
            rows.append({**key, **one, "singular": found["n_singular"] / found["n"]})
    return pd.DataFrame(rows, columns=COLUMNS)


def joint(n: int, seed: int) -> pd.DataFrame:
    """Type-I error of Kenward and Roger's F test of a factor with three levels."""
    case = next(c for c in cases() if "arms" in c.name)
    test = "armq = 0, armr = 0"
    found = hlm.power(case.mechanism, test, n, df="kenward-roger", seed=seed).table.iloc[0]
    key = {"design": case.name, "method": "KR", "term": test, "measure": "type_i"}
    one = judged(found["power"], found["mcse"], 0.05, "at most")
    return pd.DataFrame([{**key, **one, "singular": found["singular"] / n}], columns=COLUMNS)


def variances(n: int, seed: int) -> pd.DataFrame:
    """Variances of the random effects where a unit-level covariate is left out.

    With b_i = γ a_i + N(0, Σ), the units' own lines have the covariance Σ + γγ's² + σ²(Z'Z)⁻¹, s²
    being the variance of a over the units, and REML takes the last part off again. A model without
    a (the article's model 1) has random effects of Σ + γγ's², one with it (model 2) those of Σ,
    here but for the singular fits, in which the smaller variance is too large. For a drawn anew,
    s² is 1.
    """
    article = hlm.load_dataset("article").drop(columns="y")
    s2 = float(article.groupby("unit")["a"].first().var())
    gamma = np.array([TRUTH.beta[2], TRUTH.beta[3]])
    inflated = np.outer(gamma, gamma)
    short = hlm.Truth(TRUTH.beta[:2], TRUTH.cov, TRUTH.sigma)
    names = ("(Intercept)", "x")
    omitted = hlm.violations.OmittedCovariate(dict(zip(names, gamma, strict=True)))
    given = hlm.mechanism(f"y {ARTICLE}", article, TRUTH)
    hidden = hlm.mechanism(MODEL_1, article, short, omitted)
    runs = [
        ("model 1", given, MODEL_1, TRUTH.cov + s2 * inflated, "exact"),
        ("model 2", given, None, TRUTH.cov, "at least"),
        ("omitted covariate", hidden, None, TRUTH.cov + inflated, "exact"),
    ]
    return pd.concat(_variances(*run, n, seed) for run in runs)


def _variances(
    name: str, mechanism: hlm.Mechanism, formula: str | None, cov: np.ndarray, claim: Claim,
    n: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    frames = []
    for first in range(0, n, CHUNK):
        fits = mechanism.draw(first, min(first + CHUNK, n), seed).fit(formula)
        found = np.asarray(fits.varcorr.cov)
        for term, j, k in (("var (Intercept)", 0, 0), ("cov", 0, 1), ("var x", 1, 1)):
            columns = {"term": term, "estimate": found[:, j, k], "truth": cov[j, k]}
            status = np.where(fits.singular, "singular", "converged")
            frames.append(pd.DataFrame({**columns, "status": np.where(fits.ok, status, "failed")}))
    measured = hlm.measures(pd.concat(frames), by="term", which=["bias"])
    rows = []
    for _, row in measured.iterrows():
        # A covariance is pulled to either side where the correlation stops at 1.
        own: Claim = "approximate" if claim != "exact" and row["term"] == "cov" else claim
        one = judged(row["mean"], row["bias_mcse"], row["truth"], own)
        key = {"design": "article", "method": name, "term": row["term"], "measure": "mean"}
        rows.append({**key, **one, "singular": row["n_singular"] / row["n"]})
    return pd.DataFrame(rows, columns=COLUMNS)


def models(n: int, seed: int) -> pd.DataFrame:
    """Fixed effects of the article's model 1 and model 2 on the same data sets.

    The article's a is not centred, and what it does to lines is taken for part of them: model 1
    estimates 1 − 0.15ā and 3 + 0.3ā, and the sd of a between the units for chance, so that its
    standard errors are √((Σ + γγ's² + σ²(Z'Z)⁻¹)/(Σ + σ²(Z'Z)⁻¹)) times what they should be.
    """
    article = hlm.load_dataset("article").drop(columns="y")
    units = article.groupby("unit")["a"].first()
    x = article.loc[article["unit"] == 1, "x"].to_numpy()
    Z = np.column_stack([np.ones(len(x)), x])
    own = np.diag(TRUTH.cov + TRUTH.sigma**2 * np.linalg.inv(Z.T @ Z))
    gamma = np.array([TRUTH.beta[2], TRUTH.beta[3]])
    wide = np.sqrt((own + gamma**2 * units.var()) / own)
    mechanism = hlm.mechanism(f"y {ARTICLE}", article, TRUTH)
    methods = [hlm.Method("model 1", MODEL_1), hlm.Method("model 2")]
    with tempfile.TemporaryDirectory() as folder:
        study = hlm.study(None, {"article": mechanism}, methods, n, seed, out=folder, chunk=CHUNK)
        measured = study.measures(which=["bias", "relative_error"])
    table = measured.set_index(["method", "term"])
    rows = []
    for j, term in enumerate(("(Intercept)", "x")):
        for method, bias, error in (
            ("model 1", gamma[j] * units.mean(), 100.0 * (wide[j] - 1.0)),
            ("model 2", 0.0, 0.0),
        ):
            found = table.loc[(method, term)]
            claim: Claim = "exact" if method == "model 1" else "at least"
            for measure, expected, how in (
                ("bias", bias, "exact"),
                ("relative_error", error, claim),
            ):
                one = judged(found[measure], found[f"{measure}_mcse"], expected, how)
                key = {"design": "article", "method": method, "term": term, "measure": measure}
                rows.append({**key, **one, "singular": found["n_singular"] / found["n"]})
    return pd.DataFrame(rows, columns=COLUMNS)


def by_r(case: Case, n: int, seed: int) -> pd.DataFrame:
    """Fixed effects of n data sets of a design by lmerTest and pbkrtest, and here.

    Returns:
        One row per data set and term: estimate, se, df, p, singular and criterion, of R and here.
    """
    drawn = case.mechanism.draw(0, n, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.mechanism.design.to_csv(folder / "design.csv", index=False)
        np.savetxt(folder / "responses.csv", drawn.responses, delimiter=",", fmt="%.17g")
        command = ["Rscript", str(SCRIPT), str(folder), case.mechanism.formula]
        subprocess.run(command, check=True, capture_output=True)
        theirs = pd.read_csv(folder / "out.csv")
    fits = drawn.fit()
    ours = fits.tidy(df="kenward-roger").query("effect == 'fixed'")
    ours = ours.rename(columns={"std_error": "se", "p_value": "p"})
    ours = ours[["estimate", "se", "df", "p"]].reset_index(drop=True)
    per_fit = {"singular": np.asarray(fits.singular), "criterion": np.asarray(fits.criterion)}
    for name, values in per_fit.items():
        ours[name] = np.repeat(values, len(case.mechanism.terms))
    return pd.concat([theirs, ours.add_suffix("_here")], axis=1)


def peers(n: int, seed: int) -> Iterator[dict[str, object]]:
    """How far R's numbers of the same data sets are from ours, by design.

    Where the two have stopped at different minima of the criterion, which of them is lower is
    counted, and the rest left out of the comparison.
    """
    for case in cases():
        if len(case.mechanism.design) > MOST_ROWS:
            continue
        both = by_r(case, n, seed)
        above = both["criterion"] - both["criterion_here"]
        same = above.abs() < SAME
        inner = ~both["singular_here"].astype(bool)
        for subset, which in (("interior", inner), ("singular", ~inner)):
            part = both[which & same]
            apart = {
                "se": (part["se"] / part["se_here"] - 1.0).abs(),
                "df": (part["df"] / part["df_here"] - 1.0).abs(),
                "p": (part["p"] - part["p_here"]).abs(),
            }
            decisions = (part["p"] < 0.05) != (part["p_here"] < 0.05)
            yield {
                "design": case.name,
                "lanes": subset,
                "fits": part["set"].nunique(),
                "lower here": both["set"][which & (above >= SAME)].nunique(),
                "lower in R": both["set"][which & (above <= -SAME)].nunique(),
                **{f"{name}, median": float(a.median()) for name, a in apart.items()},
                **{f"{name}, largest": float(a.max()) for name, a in apart.items()},
                "other decisions": int(decisions.sum()),
            }


def compact(part: pd.DataFrame) -> pd.DataFrame:
    """One row per method and term of a design, every measure in one cell."""
    cells = [
        f"{r.value:.4g} {SIGNS[r.theory]} {r.expected:.4g} ({r.z:+.1f}){MARKS[r.verdict]}"
        for r in part.itertuples()
    ]
    keys = ["method", "term", "singular"]
    wide = part.assign(cell=cells).pivot_table("cell", keys, "measure", "first", sort=False)
    return wide.reset_index().fillna("")


def shown(frame: pd.DataFrame, title: str) -> Table:
    """A frame as a printed table."""
    table = Table(*frame.columns, title=title)
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    return table


def main() -> int:
    """Print the tables, write the first; the exit status is 1 if a number is OFF."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation.nominal", description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="data sets per design")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", type=int, default=40, help="data sets per design for R")
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder of the CSV file")
    options = parser.parse_args()
    n, seed, console = options.n, options.seed, Console(width=160)
    fewer = max(n // OF_ROWS, 2)
    balanced = [c for c in cases() if (c.df and "slopes" in c.name) or c.name == "article"]
    parts = [
        nominal(cases(), METHODS, n, seed),
        nominal(balanced, (TWO_STAGE,), fewer, seed + 1),
        joint(n, seed + 2),
        models(fewer, seed + 3),
        variances(fewer, seed + 4),
    ]
    table = pd.concat(parts, ignore_index=True)
    for design, part in table.groupby("design", sort=False):
        console.print(shown(compact(part), str(design)))
    console.print(LEGEND)
    exact = table["theory"] == "exact"
    far = int((table["z"].abs() > FAR)[exact].sum())
    off = table[table["verdict"] == "OFF"]
    console.print(
        f"{len(table)} numbers; {int(exact.sum())} of them are given exactly by theory, {far} of "
        f"these beyond {FAR:g} MCSE (chance alone: {0.0027 * exact.sum():.1f}); OFF: {len(off)}"
    )
    z = table[(table["method"] == "z") & (table["measure"] == "type_i")]
    liberal = (z["value"] - 0.05) / z["mcse"] > FAR
    console.print(
        f"z tests of effects that are zero: type-I error beyond 5 % by more than {FAR:g} MCSE in "
        f"{int(liberal.sum())} of {len(z)}, at most {z['value'].max():.3f}"
    )
    path = machine.results_path(options.out, machine.describe(), "nominal")
    table.to_csv(path, index=False, float_format="%.6g")
    console.print(f"written to {path}")
    if options.peer and shutil.which("Rscript"):
        found = pd.DataFrame(peers(options.peer, seed))
        console.print(shown(found, "Kenward-Roger by lmerTest and pbkrtest, the same data sets"))
        path = machine.results_path(options.out, machine.describe(), "nominal-r")
        found.to_csv(path, index=False, float_format="%.3g")
        console.print(f"written to {path}")
    return int(len(off) > 0)


if __name__ == "__main__":
    sys.exit(main())
