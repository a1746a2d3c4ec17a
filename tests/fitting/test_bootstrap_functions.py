"""Bootstrap limits of functions of fits, of all methods."""

import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import sleepstudy
from jaxhlm import errors


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize("method", ["parametric", "residual", "cases"])
def test_limits_are_quantiles_over_the_replicates(method):
    fit = sleepstudy()
    boot = hlm.bootstrap(fit, 40, method, seed=3, progress=False)
    table = boot.confint_of("r2", level=0.9)
    np.testing.assert_allclose(table["original"], fit.r2(), rtol=tol.SUMMED)
    if method == "parametric":
        Z, X = fit.design.Z, fit.design.X
        random = np.einsum("ni,bij,nj->b", Z, boot.fits.varcorr.cov, Z) / len(Z)
        fixed = (X @ boot.fits.fixef.to_numpy().T).var(axis=0, ddof=1)
        values = fixed / (fixed + random + boot.fits.sigma**2)
    else:
        values = np.array([one.r2()["marginal"] for one in boot.fits])
    limits = np.quantile(values, [0.05, 0.95])
    found = table.loc["marginal"]
    np.testing.assert_allclose(found[["5 %", "95 %"]].astype(float), limits, rtol=tol.BATCH)
    np.testing.assert_allclose(found["bias"], values.mean() - fit.r2()["marginal"])
    assert found["used"] == 40


@pytest.mark.parametrize("name", ["sigma", "icc", "r2", "se", "df"])
def test_a_wild_bootstrap_tells_nothing_of_variances(name):
    """Nor do its replicates of what depends on them; functions of the fixed effects are sound."""
    boot = hlm.bootstrap(sleepstudy(), 40, "wild", seed=3, progress=False)
    with pytest.warns(errors.DegenerateWarning, match="tells nothing of the variances"):
        table = boot.confint_of(name)
    assert table[["std_error", "2.5 %", "97.5 %"]].isna().all(axis=None)
    assert table[["original", "bias"]].notna().all(axis=None)
    fixed = boot.confint_of(lambda fits: fits.fixef["Days"] / fits.fixef["(Intercept)"])
    assert fixed.notna().all(axis=None)
    both = boot.confint_of("fixef")
    np.testing.assert_allclose(
        both[["2.5 %", "97.5 %"]], boot.confint().loc[both.index], rtol=tol.SUMMED
    )


def test_functions_of_users():
    fit = sleepstudy()
    boot = hlm.bootstrap(fit, 40, seed=3, progress=False)
    slope = boot.confint_of(lambda fits: fits.fixef["Days"] / fits.sigma, "basic")
    expected = fit.fixef["Days"] / fit.sigma
    np.testing.assert_allclose(slope["original"], expected)
    assert slope["2.5 %"].item() < expected < slope["97.5 %"].item()
    both = boot.confint_of(lambda fits: fits.emmeans("Days")["emmean"])
    np.testing.assert_allclose(both["original"], fit.emmeans("Days")["emmean"])
    assert boot.confint_of("icc", "normal").index.tolist() == ["icc"]
    for wrong in (3, "rsq", "_show", lambda fits: 1.0, lambda fits: fits.tidy()):
        with pytest.raises(errors.OptionError, match="function"):
            boot.confint_of(wrong)
    with pytest.raises(errors.OptionError, match="bca"):
        boot.confint_of("r2", "bca")


def test_read_from_a_file(tmp_path):
    boot = hlm.bootstrap(sleepstudy(), 10, seed=3, progress=False)
    boot.to_parquet(tmp_path / "boot.parquet")
    with pytest.raises(errors.JaxhlmError, match="no data"):
        hlm.Bootstrap.read_parquet(tmp_path / "boot.parquet").confint_of("r2")


def test_means_of_data_sets_drawn_as_statistics():
    """The rows of X are there, whatever was drawn of y."""
    design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
    truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], sigma=0.75)
    fits = hlm.simulate(design, truth, n=3, seed=1).fit(progress=False)
    found = fits.emmeans("x", at={"x": [0, 1]})
    beta, a = fits.fixef, design.X[:, design.xnames.index("a")].mean()
    at_zero = beta["(Intercept)"] + beta["a"] * a
    np.testing.assert_allclose(found["emmean"][::2], at_zero, rtol=tol.SMALL)
    assert fits.r2().shape == (3, 2)
