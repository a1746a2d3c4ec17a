"""The posterior of the article's model by NUTS, from ``loglik``: flat priors give REML's β."""

import re
from functools import cache

import jax
import numpy as np
import pytest

import tolerances as tol
from cases import article
from places import ROOT

pytestmark = pytest.mark.slow


@cache
def posterior():
    """What the README's own code draws."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", readme, re.S) if "blackjax" in c)
    given, before = {}, jax.config.jax_enable_x64
    try:
        exec(code, given)
        names = ("beta", "sigma", "sd", "corr", "ess", "divergent")
        return {name: jax.tree.map(np.asarray, given[name]) for name in names}
    finally:
        jax.config.update("jax_enable_x64", before)


def test_the_posterior_of_fixed_effects_has_the_moments_of_reml():
    """In a balanced design β̂ is the same at every θ, so its mean is REML's estimate.

    Its standard deviation is a little larger than REML's error, which takes θ and σ as known.
    """
    beta, ess = posterior()["beta"], posterior()["ess"][:4]
    fit, sd = article(), beta.std(axis=0)
    assert ess.min() > 200
    off = (beta.mean(axis=0) - fit.fixef) / (sd / np.sqrt(ess))
    assert np.abs(off).max() < tol.MONTE_CARLO
    wider = sd / fit.se.to_numpy()
    error = tol.MONTE_CARLO / np.sqrt(2.0 * ess)
    assert (wider > 1.0 - error).all()
    assert (wider < 1.1 + error).all()


def test_the_posterior_of_the_variances_lies_about_reml():
    """Their estimates are near the modes of skewed posteriors: well inside, not at the mean."""
    drawn, fit = posterior(), article()
    assert drawn["divergent"].mean() < 0.02
    assert drawn["ess"].shape == (8,) and drawn["ess"].min() > 50
    corr = fit.varcorr.corr.iloc[0, 1]
    for draws, estimate in (
        (drawn["sigma"], fit.sigma),
        (drawn["sd"][:, 0], fit.varcorr.sd.iloc[0]),
        (drawn["sd"][:, 1], fit.varcorr.sd.iloc[1]),
        (drawn["corr"], corr),
    ):
        assert 0.1 < (draws < estimate).mean() < 0.9
