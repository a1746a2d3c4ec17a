"""``compare``: models of the same rows side by side."""

from __future__ import annotations

from jaxhlm.core.arguments import check_flag
from jaxhlm.errors import OptionError
from jaxhlm.results.anova import Anova
from jaxhlm.results.fit import Fit, records
from jaxhlm.results.likelihood_ratios import ranked

__all__ = ["compare"]


def compare(*fits: Fit, refit: bool = True) -> Anova:
    """Information criteria of models of the same rows, nested or not, the best AICc first.

        AIC = −2ℓ + 2k,   AICc = AIC + 2k(k + 1)/(n − k − 1),   BIC = −2ℓ + k log n

    with k the number of parameters and n the number of rows (Hurvich & Tsai 1989).

    Args:
        fits: two or more fits.
        refit: refit by ML what was fitted by REML first, and say so. False keeps REML, for models
            with the same fixed effects.

    Returns:
        ``Anova`` with columns npar, AIC, AICc, BIC, logLik, -2*log(L), ΔAICc and the Akaike weight
        exp(−½ΔAICc)/Σ (Burnham & Anderson 2002, chapter 2). Rows are numbered in the order of the
        arguments.

    Raises:
        DifferentRowsError, MixedMethodsError, OptionError: as for ``Fit.anova``.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> line = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> level = hlm.fit("Reaction ~ Days + (1 | Subject)", data)
        >>> hlm.compare(level, line).table["AICc"].round(1).to_dict()
        {'2': 1764.4, '1': 1802.3}
    """
    if len(fits) < 2:
        raise OptionError("compare needs two or more fits of the same rows")
    check_flag("refit", refit)
    return ranked(records(fits), refit)
