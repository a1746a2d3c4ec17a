"""The posterior of the article's model by NUTS, from ``loglik``: flat priors give REML's β."""

import re

import blackjax
import jax
import numpy as np

import tolerances as tol
from cases import article
from places import ROOT


def posterior():
    """(draws, p) fixed effects and their effective numbers, by the README's own code."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", readme, re.S) if "blackjax" in c)
    given, before = {}, jax.config.jax_enable_x64
    try:
        exec(code, given)
        beta = np.asarray(given["beta"])
        return beta, np.asarray(blackjax.diagnostics.effective_sample_size(beta[None]))
    finally:
        jax.config.update("jax_enable_x64", before)


def test_the_posterior_of_fixed_effects_has_the_moments_of_reml():
    """In a balanced design β̂ is the same at every θ, so its mean is REML's estimate.

    Its standard deviation is a little larger than REML's error, which takes θ and σ as known.
    """
    beta, ess = posterior()
    fit, sd = article(), beta.std(axis=0)
    assert ess.min() > 200
    off = (beta.mean(axis=0) - fit.fixef) / (sd / np.sqrt(ess))
    assert np.abs(off).max() < tol.MONTE_CARLO
    wider = sd / fit.se.to_numpy()
    error = tol.MONTE_CARLO / np.sqrt(2.0 * ess)
    assert (wider > 1.0 - error).all()
    assert (wider < 1.1 + error).all()
