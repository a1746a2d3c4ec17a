"""The posterior of the article's model by NUTS, from ``loglik``: flat priors give REML's β."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import FORMULA, article


def posterior(draws, warmup):
    """(draws, p) fixed effects, as a user would write it."""
    blackjax = pytest.importorskip("blackjax")
    data, fit = hlm.load_dataset("article"), article()
    d = hlm.design(FORMULA, data)
    stats = hlm.suffstats(jnp.array(data["y"]), d.X, d.Z, d.group, d.G)
    start = {"beta": fit.fixef.to_numpy(), "theta": fit.theta, "log_sigma": np.log(fit.sigma)}

    def log_posterior(at):
        return hlm.loglik(at["beta"], at["theta"], jnp.exp(at["log_sigma"]), stats)

    def sample(key):
        first, second = jax.random.split(key)
        adapted = blackjax.window_adaptation(blackjax.nuts, log_posterior)
        (state, tuned), _ = adapted.run(first, jax.tree.map(jnp.asarray, start), warmup)
        nuts = blackjax.nuts(log_posterior, **tuned)

        def one(state, key):
            state, _ = nuts.step(key, state)
            return state, state.position["beta"]

        return jax.lax.scan(one, state, jax.random.split(second, draws))[1]

    beta = np.asarray(jax.jit(sample)(jax.random.key(1)))
    return beta, np.asarray(blackjax.diagnostics.effective_sample_size(beta[None]))


def test_the_posterior_of_fixed_effects_has_the_moments_of_reml():
    """In a balanced design β̂ is the same at every θ, so its mean is REML's estimate.

    Its standard deviation is a little larger than REML's error, which takes θ and σ as known.
    """
    with jax.enable_x64(True):
        beta, ess = posterior(draws=1000, warmup=300)
    fit, sd = article(), beta.std(axis=0)
    assert ess.min() > 200
    off = (beta.mean(axis=0) - fit.fixef) / (sd / np.sqrt(ess))
    assert np.abs(off).max() < tol.MONTE_CARLO
    wider = sd / fit.se.to_numpy()
    error = tol.MONTE_CARLO / np.sqrt(2.0 * ess)
    assert (wider > 1.0 - error).all()
    assert (wider < 1.1 + error).all()
