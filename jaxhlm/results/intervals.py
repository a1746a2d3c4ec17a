"""Confidence intervals of one fit, and the profiles behind them.

What profiles and bootstraps need is imported when they are asked for: a fit alone starts sooner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxhlm.arguments import affordable, whole_number
from jaxhlm.errors import OptionError
from jaxhlm.inference.criteria import check_level, limit_names, wald_interval
from jaxhlm.inference.parameters import Parameter, choose, parameter_names, parameters
from jaxhlm.model import Model
from jaxhlm.notation import BootstrapInterval, IntervalMethod, check_option
from jaxhlm.results.compared import Compared
from jaxhlm.streams import Seed

__all__ = ["Intervals"]


class Intervals(Compared):
    """Intervals from the curvature at the estimate, and from the likelihood itself."""

    def confint(
        self,
        method: IntervalMethod = "wald",
        level: float = 0.95,
        parm: str | Sequence[str] | None = None,
        *,
        n: int = 1000,
        seed: Seed = None,
        interval: BootstrapInterval = "percentile",
    ) -> pd.DataFrame:
        """Confidence intervals, (P, 2); ``lme4::confint(fit, method = …, oldNames = FALSE)``.

        "wald" gives β̂ ± z se for the fixed effects. "profile" gives all v with

            min { d(β, θ, σ) : parameter = v } − min d ≤ z²,     z² = χ²_1(level)

        for standard deviations and correlations of the random effects, σ, and fixed effects (Bates
        et al. 2015, section 5.1), d being the ML deviance: a REML fit is refitted by ML first, as
        in lme4. Limits are where the profile crosses z², found to 1e-7 in ζ and not read off a
        spline. At the boundary: a standard deviation whose profile stays below z² has the lower
        limit 0; a correlation likewise −1 or 1, and both where one of its variances may be zero.
        NaN means that no limit was found, or that the profile fell below the fit, which then is
        not the global optimum.

        "boot" gives the same parameters limits from a parametric bootstrap, which keeps REML or ML;
        more bootstraps are in ``jaxhlm.bootstrap``.

        Args:
            method: "wald", "profile" or "boot".
            level: confidence level.
            parm: names of parameters, such as "sd_x|unit", "cor_x.(Intercept)|unit", "sigma" or a
                fixed effect's; all if None, in lme4's order.
            n: bootstrap replicates.
            seed: of the bootstrap: int, NumPy Generator or JAX key.
            interval: of the bootstrap: "percentile", "basic", "normal" or "bca".

        Returns:
            Rows by parameter, columns such as "2.5 %" and "97.5 %".

        Raises:
            OptionError: unknown method, interval or parameter, or a level outside (0, 1).

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> fit.confint("profile").round(2)
                                            2.5 %  97.5 %
            term
            sd_(Intercept)|Subject          14.38   37.72
            cor_Days.(Intercept)|Subject    -0.48    0.69
            sd_Days|Subject                  3.80    8.75
            sigma                           22.90   28.86
            (Intercept)                    237.68  265.13
            Days                             7.36   13.58
        """
        check_option("method", method, IntervalMethod)
        check_level(level)
        if method == "wald":
            fixed = [p for p in parameters(self.model) if p.kind == "fixed"]
            wanted = choose(fixed, parm)
            at = [p.at[0] for p in wanted]
            low, high = wald_interval(self.estimates.beta[0][at], self.se.to_numpy()[at], level)
            limits = np.column_stack([low, high])
        elif method == "boot":
            from jaxhlm.resampling.schemes import parametric_interval

            wanted = choose(parameters(self.model), parm)
            both = parametric_interval(
                self.model, self.prepared, self._response, self.estimates, self.options,
                n, seed, interval, level,
            )  # fmt: skip
            limits = np.column_stack(both)[[position(self.model, p) for p in wanted]]
        else:
            from jaxhlm.inference.profiles import profile_limits

            wanted = choose(parameters(self.model), parm)
            limits = profile_limits(self.standard, self.model.blocks, wanted, level)[0]
        index = pd.Index([p.name for p in wanted], name="term")
        return pd.DataFrame(limits, index, limit_names(level))

    def profile(
        self, parm: str | Sequence[str] | None = None, level: float = 0.99, points: int = 15
    ) -> pd.DataFrame:
        """Profiles to plot: the signed root of the rise of the ML deviance, by parameter.

            ζ(v) = sign(v − v̂) √(min { d : parameter = v } − min d)

        A straight line is where the Wald interval is right (Bates et al. 2015, section 5.1). Equals
        ``lme4::profile(fit)`` at the same values.

        Args:
            parm: names of parameters, as for ``confint``; all if None.
            level: how far the profiles reach, on either side.
            points: values per parameter, an odd number of which the middle one is the estimate.

        Returns:
            Long frame with columns term, value, zeta; NaN where a limit could not be found.

        Raises:
            OptionError: unknown parameter, a level outside (0, 1), or an even number of points.

        Example:
            >>> import jaxhlm as hlm
            >>> fit = hlm.fit("Reaction ~ Days + (1 | Subject)", hlm.load_dataset("sleepstudy"))
            >>> fit.profile("Days", points=5).round(2)
               term  value  zeta
            0  Days   8.38 -2.58
            1  Days   9.42 -1.30
            2  Days  10.47  0.00
            3  Days  11.51  1.30
            4  Days  12.55  2.58
        """
        from jaxhlm.inference.profiles import profile_curves

        check_level(level)
        if whole_number("points", points, least=3) % 2 == 0:
            raise OptionError(f"points={points!r} must be an odd number from 3 on")
        wanted = choose(parameters(self.model), parm)
        affordable("points", points, 16.0 * len(wanted))
        curves = profile_curves(self.standard, self.model.blocks, wanted, level, points)
        value, zeta = curves.reshape(-1, 2).T
        term = np.repeat(np.array([p.name for p in wanted], dtype=object), points)
        return pd.DataFrame({"term": term, "value": value, "zeta": zeta})


def position(model: Model, parameter: Parameter) -> int:
    """Where a parameter stands among ``parameter_names``."""
    x, z, at = model.xnames, model.znames, parameter.at
    names = {
        "fixed": lambda: x[at[0]],
        "sd": lambda: f"sd__{z[at[0]]}",
        "cor": lambda: f"cor__{z[at[1]]}.{z[at[0]]}",
        "sigma": lambda: "sigma",
    }
    return parameter_names(model).index(names[parameter.kind]())
