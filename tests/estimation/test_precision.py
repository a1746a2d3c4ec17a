"""Searches in single precision: decided in double, so the fits are those of the cores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import SLEEP
from jaxhlm.core.precision import jax_config_scope
from jaxhlm.errors import FolderError, OptionError
from jaxhlm.estimation import device_chunks, program
from jaxhlm.optimise.options import Options
from jaxhlm.sources.inputs import response_input

pytestmark = [pytest.mark.usefixtures("quick_devices"), pytest.mark.slow]

FORMULA = "~ x + (1 + x | unit)"
EACH = 60
# Sizes of random effects beside the residuals, and how heavy the tails of these are.
KINDS = {
    "ordinary": (1.0, None),
    "tiny": (1e-3, None),
    "large": (1e2, None),
    "huge": (1e4, None),
    "heavy": (1.0, 2.0),
}


@pytest.fixture(scope="module")
def given():
    """Unequal groups, x far from zero, and responses of all kinds in units of 1e-4."""
    rng = np.random.default_rng(3)
    data = hlm.load_dataset("article").sample(frac=0.6, random_state=2)
    design = hlm.design(FORMULA, data)
    parts = []
    for size, df in KINDS.values():
        b = size * rng.normal(size=(design.G, design.q, EACH))
        shape = design.n, EACH
        error = rng.normal(size=shape) if df is None else 5.0 * rng.standard_t(df, size=shape)
        parts.append(np.einsum("nq,nqb->nb", design.Z, b[design.group]) + error)
    return data.assign(x=1e5 + 3.0 * data["x"]), 1e-4 * np.concatenate(parts, axis=1)


@pytest.fixture(scope="module")
def fits(given, quick_devices):
    """Searched in single precision, and by the cores."""
    data, Y = given
    with pytest.MonkeyPatch.context() as patch:
        by_cores, fit_lanes = [], device_chunks.fit_lanes

        def counted(source, options):
            by_cores.append(source.B)
            return fit_lanes(source, options)

        patch.setattr(device_chunks, "fit_lanes", counted)
        found = hlm.fit_many(FORMULA, data, Y, devices=1, precision="float32")
    return found, hlm.fit_many(FORMULA, data, Y), sum(by_cores)


def program_of(given, precision):
    source, _, model = response_input(FORMULA, *given, None, True)
    options = Options(True, model.blocks, precision=precision)
    return program.chunk_program(source.traceable.reduction, options)


def test_fits_are_those_of_double_precision(fits):
    """Whatever the kind; β in standard errors."""
    found, expected, _ = fits
    np.testing.assert_array_equal(found.status, expected.status)
    ok = expected.ok
    assert ok.mean() > 0.9
    np.testing.assert_allclose(found.criterion, expected.criterion, rtol=tol.SINGLE_SEARCH)
    apart = (found.fixef - expected.fixef) / expected.se
    assert np.abs(apart[ok]).max(axis=None) < tol.SINGLE_SEARCH_BETA
    np.testing.assert_allclose(found.sigma[ok], expected.sigma[ok], rtol=tol.SINGLE_SEARCH_BETA)


def test_most_searches_are_decided_on_the_device(fits):
    """Not those that end on the boundary, as in double precision."""
    _, expected, by_cores = fits
    assert expected.singular.sum() <= by_cores < 0.7 * len(expected)


def test_the_search_is_in_single_precision(given):
    """No array of lanes is converted within it."""
    with jax_config_scope():
        traced = jax.make_jaxpr(program_of(given, "float32"))((), jnp.zeros(given[1].shape))
    loops = [e for e in traced.jaxpr.eqns if e.primitive.name == "while"]
    types = [{v.aval.dtype for v in e.outvars if v.aval.dtype.kind == "f"} for e in loops]
    assert types == [{np.dtype(np.float32)}, {np.dtype(np.float64)}]


def test_what_single_precision_cannot_decide_is_fitted_by_the_cores(given, monkeypatch):
    """A search that ends anywhere is found out, and lanes it cannot evaluate start anew."""
    data, Y = given
    search, misled = program.minimise_criterion, []

    def anywhere(stats, start, stepper, options, max_iter):
        found = search(stats, start, stepper, options, max_iter)
        if start.dtype == jnp.float32:
            misled.append(start.shape)
            lane = jnp.arange(start.shape[1])
            theta = jnp.where(lane % 3 == 0, 50.0, found.theta)
            value = jnp.where(lane % 3 == 1, jnp.nan, found.value)
            return found._replace(theta=theta, value=value)
        return found

    monkeypatch.setattr(program, "minimise_criterion", anywhere)
    some = Y[:, : EACH - 1 : 2]
    # Another tolerance, so that the program is compiled again.
    found = hlm.fit_many(FORMULA, data, some, devices=1, precision="float32", tol=2e-10)
    assert misled
    expected = hlm.fit_many(FORMULA, data, some)
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_allclose(found.criterion, expected.criterion, rtol=tol.SINGLE_SEARCH)


def test_print_says_what_was_in_which_precision(fits):
    found, expected, _ = fits
    assert "Precision: float32 in the search only" in str(found)
    assert "Precision" not in str(expected)


def test_a_folder_says_what_was_in_which_precision(given, tmp_path):
    data, Y = given
    out = tmp_path / "out"
    made = hlm.fit_many(FORMULA, data, Y, devices=1, precision="float32", out=out)
    for fits in (made, hlm.read_fits(out)):
        assert "Precision: float32 in the search only" in str(fits)
        assert "Precision: float32 in the search only" in str(fits[:9])
    with pytest.raises(FolderError, match="it differs in options"):
        hlm.fit_many(FORMULA, data, Y, out=out, resume=True)
    plain = hlm.fit_many(FORMULA, data, Y[:, :9], out=tmp_path / "plain")
    assert "Precision" not in str(plain) + str(hlm.read_fits(plain.path)[:9])


@pytest.mark.parametrize("precision", ["float16", "double", 32, None, np.float32])
def test_other_precisions_are_refused(precision):
    fit = hlm.fit(SLEEP, hlm.load_dataset("sleepstudy"))
    with pytest.raises(OptionError, match="precision"):
        hlm.simulate(fit, n=5, seed=1).fit(devices=1, precision=precision)
    with pytest.raises(OptionError, match="precision"):
        hlm.bootstrap(fit, 5, seed=1, devices=1, precision=precision)


def test_single_precision_is_refused_where_the_cores_fit():
    data = hlm.load_dataset("sleepstudy")
    fit = hlm.fit(SLEEP, data)
    calls = (
        lambda **o: hlm.fit_many(SLEEP, data, fit.simulate(3, seed=1), **o),
        lambda **o: hlm.fit_many(SLEEP, data.assign(r=0), by="r", **o),
        lambda **o: hlm.simulate(fit, n=5, seed=1).fit(**o),
        lambda **o: hlm.bootstrap(fit, 5, seed=1, **o),
    )
    for call in calls:
        with pytest.raises(OptionError, match="precision='float32' is for devices"):
            call(precision="float32")


def test_what_follows_from_single_precision_fits_runs_on_the_cores(fits):
    one = fits[0][0]
    assert len(hlm.bootstrap(one, 20, seed=1)) == 20
    again = one.refit(np.asarray(one.fitted) + np.asarray(one.residuals))
    np.testing.assert_allclose(again.criterion, one.criterion, rtol=tol.SINGLE_SEARCH)
