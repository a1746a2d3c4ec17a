"""What holds of any design: numbers where a fit converged, equivariance, a lane as the fit alone.

``python -m bench.validation.frames`` tries thousands of them.
"""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import drawn_designs as drawn
import jaxhlm as hlm
import tolerances as tol
from jaxhlm.core import chunks
from jaxhlm.sources import frames

mild = drawn.data_sets([1.0], ["normal"])


@settings(max_examples=25)
@given(drawn.data_sets(drawn.BEYOND, list(drawn.COLUMNS)))
def test_what_converged_is_finite(data):
    drawn.check_finite(data)


@settings(max_examples=10)
@given(drawn.data_sets(), st.lists(drawn.data_sets(), min_size=1, max_size=3), st.integers(0, 4))
def test_a_lane_is_the_fit_alone(data, others, missing):
    drawn.check_batch(data, others, missing)


@settings(max_examples=8)
@given(
    st.lists(drawn.data_sets(), min_size=2, max_size=4),
    st.sampled_from(drawn.FORMULAS),
    st.booleans(),
)
def test_a_replicate_is_the_fit_alone(parts, formula, reml):
    drawn.check_replicates(parts, formula, reml)


@settings(max_examples=10)
@given(mild, st.floats(-1e3, 1e3), st.floats(-3, 3).map(lambda e: 10.0**e), st.integers(0, 99))
def test_units_of_the_response_rows_and_labels(data, shift, factor, seed):
    """y → a + by with units renamed and rows mixed adds 2ν log b to the criterion."""
    rng, n, reml = np.random.default_rng(seed), len(data.frame), data.options["reml"]
    plain = drawn.quietly(lambda: hlm.fit(data.formula, data.frame, **data.options))
    if isinstance(plain, hlm.JaxhlmError) or "0 +" in data.formula.split("(")[0]:
        return
    order, names = rng.permutation(n), rng.permutation(n)
    other = data.frame.assign(y=shift + factor * data.frame["y"])
    other = other.assign(unit=[f"u{names[u]}" for u in other["unit"]]).iloc[order]
    options = dict(data.options)
    if "weights" in options:
        options["weights"] = options["weights"][order]
    found = drawn.quietly(lambda: hlm.fit(data.formula, other, **options))
    assert found.status == plain.status
    expected = plain.criterion + 2 * (n - reml * len(plain.fixef)) * np.log(factor)
    np.testing.assert_allclose(found.criterion, expected, atol=tol.CRITERION * n)
    np.testing.assert_allclose(found.sigma, factor * plain.sigma, rtol=tol.LOSSY)
    np.testing.assert_allclose(found.se, factor * plain.se, rtol=tol.LOSSY)
    moved = found.fixef - factor * plain.fixef - shift * (plain.fixef.index == "(Intercept)")
    np.testing.assert_allclose(moved / found.se, 0.0, atol=tol.LOSSY)


@settings(max_examples=6)
@given(mild, st.permutations(["x", "z", "a"]))
def test_the_order_of_terms_and_columns(data, order):
    formula = "y ~ {} + (1 + x | unit)"
    plain, found = (
        drawn.quietly(lambda t=terms: hlm.fit(formula.format(" + ".join(t)), data.frame))
        for terms in (["x", "z", "a"], order)
    )
    np.testing.assert_allclose(found.criterion, plain.criterion, atol=tol.CRITERION)
    moved = (found.fixef[plain.fixef.index] - plain.fixef) / plain.se
    np.testing.assert_allclose(moved, 0.0, atol=tol.LOSSY)


def ragged(kind):
    """Twenty data sets: responses, some of them with rows missing, or rows of their own."""
    rng, unit = np.random.default_rng(5), np.repeat(np.arange(7), 5)
    data = pd.DataFrame({"x": rng.normal(size=35), "unit": unit})
    if kind in ("complete", "missing"):
        Y = rng.normal(size=(35, 20)) + rng.normal(size=(7, 20))[unit]
        if kind == "missing":
            Y[rng.random(Y.shape) < 0.1] = np.nan
        return data, {"responses": Y}
    parts = [data.iloc[: 15 + i % 4 * 5].assign(rep=i) for i in range(20)]
    long = pd.concat(parts, ignore_index=True)
    long["y"] = rng.normal(size=len(long)) + rng.normal(size=7)[long["unit"]]
    return (long.assign(unit=long["unit"].astype(str)) if kind == "text" else long), {"by": "rep"}


@pytest.mark.parametrize("kind", ["complete", "missing", "numbers", "text"])
def test_chunks_of_any_size_give_the_same(monkeypatch, kind):
    data, options = ragged(kind)
    whole = hlm.fit_many("y ~ x + (1 | unit)", data, **options)
    for module, name, size in (
        (chunks, "MAX_LANES", 3), (chunks, "CHUNK_BYTES", 1), (frames, "LANES", 7),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, size)
            found = hlm.fit_many("y ~ x + (1 | unit)", data, **options)
            np.testing.assert_array_equal(found.status, whole.status)
            np.testing.assert_allclose(found.criterion, whole.criterion, atol=tol.CRITERION)
            np.testing.assert_allclose(found.fixef, whole.fixef, atol=tol.ESTIMATE)
            np.testing.assert_allclose(found.se, whole.se, atol=tol.ESTIMATE)
            tidy = found.tidy("satterthwaite")
        pd.testing.assert_frame_equal(tidy, whole.tidy("satterthwaite"), rtol=tol.ESTIMATE)


@pytest.mark.parametrize("value", [0.0, 0.001, 3.3, 1e30, 7e-9])
@pytest.mark.parametrize("by", [False, True])
def test_a_constant_response_is_no_fit_whatever_its_rows(value, by):
    """Weights and missing rows leave rounding errors of a constant, which are no variance."""
    for seed in range(8):
        rng, unit = np.random.default_rng(seed), np.repeat(np.arange(7), [4, 3, 3, 2, 4, 3, 6])
        data = pd.DataFrame({"x": rng.normal(size=25), "unit": unit, "rep": 0})
        Y = np.column_stack([np.full(25, value), rng.normal(size=25), np.full(25, value)])
        Y[1::4, 2] = np.nan
        data["w"] = np.exp(3 * rng.normal(size=25))
        if by:
            parts = [data.assign(y=y, rep=i) for i, y in enumerate(Y.T)]
            data, options = pd.concat(parts, ignore_index=True), {"by": "rep"}
        else:
            options = {"responses": Y}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hlm.errors.JaxhlmWarning)
            fits = hlm.fit_many("y ~ x + (1 | unit)", data, weights="w", **options)
        assert list(fits.ok) == [False, True, False]


def test_warnings_are_of_the_line_that_called(rng):
    """Also where a decorator of NumPy's lies between."""
    data = pd.DataFrame({"x": rng.normal(size=40), "y": 0.01 * rng.normal(size=40)})
    data = data.assign(unit=np.repeat(np.arange(8), 5), z=2 * data["x"])
    calls = (
        lambda: hlm.fit("y ~ x + z + (1 | unit)", data),
        lambda: hlm.design("~ x + z + (1 | unit)", data),
        lambda: hlm.fit_many("~ x + (1 | unit)", data, np.column_stack([data["y"], data["x"]])),
    )
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert {w.filename for w in caught} == {__file__}
        assert {issubclass(w.category, hlm.errors.JaxhlmWarning) for w in caught} == {True}


TOUR = """
import sys, numpy as np, pandas as pd, jaxhlm as hlm, tempfile, warnings
import matplotlib; matplotlib.use("Agg")
from jaxhlm.cli.main import main
from jaxhlm import plot
from pathlib import Path
warnings.filterwarnings("ignore", category=hlm.errors.JaxhlmWarning)
data = hlm.load_dataset("sleepstudy")
formula = "Reaction ~ Days + (1 + Days | Subject)"
fit = hlm.fit(formula, data)
str(fit); fit.summary(); fit.tidy(); fit.glance(); fit.augment(); fit.varcorr; fit.coef
fit.confint(); fit.ranef_frame(); fit.tidy_robust(); fit.emmeans("Days"); fit.r2()
fit.contrast("Days"); fit.joint_test("Days"); fit.influence(); fit.icc({"Days": 0.0})
fit.predict(data.head(3)); fit.simulate(3, seed=1); fit.refit(data["Reaction"])
fit.anova(hlm.fit("Reaction ~ Days + (1 | Subject)", data))
hlm.lm_list(formula, data); hlm.bootstrap(fit, 5, seed=1, progress=False).tidy()
Y = fit.simulate(6, seed=2).to_numpy(copy=True); Y[:3, 1] = np.nan; Y[0, 2] = 1e300; Y[:, 3] = 1.0
fits = hlm.fit_many("~ Days + (1 + Days | Subject)", data, Y, progress=False)
str(fits); fits.tidy("satterthwaite"); fits.tidy_robust(); fits.bic; fits[0].summary()
long = pd.concat([data.assign(rep=i) for i in range(3)], ignore_index=True)
long.loc[3, "Reaction"] = np.inf
hlm.fit_many(formula, long, by="rep", progress=False).tidy()
made = hlm.mechanism(formula, data, hlm.Truth.of([250.0, 10.0], sd=[20.0, 5.0], sigma=25.0))
study = hlm.study({"size": [1]}, lambda size: made, n=5, seed=1, progress=False)
plot.zip_plot(study.estimates.query("term == 'Days'")); study.measures()
hlm.power(made, "Days", n=5, seed=1, progress=False)
plot.caterpillar(fit); plot.qq(fit); plot.shrinkage(fit)
folder = Path(tempfile.mkdtemp()); data.to_csv(folder / "d.csv", index=False)
fits.to_parquet(folder / "f.parquet"); hlm.FitBatch.read_parquet(folder / "f.parquet")
assert main(["fit", formula, str(folder / "d.csv")]) == 0
assert main(["info"]) == 0
"""


@pytest.mark.slow
def test_nothing_warns_of_others(tmp_path):
    """Most of the library in a process where every warning is an error, ours left out."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TOUR],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
