"""Parameters to simulate from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from jaxhlm.core.arguments import LARGEST, check_mapping, finite_array, number
from jaxhlm.core.document import Block, Printed, described
from jaxhlm.core.notation import Floats, check_option
from jaxhlm.design.design import Design
from jaxhlm.errors import OptionError, UnknownTermError
from jaxhlm.inference.criteria import correlation, standard_errors
from jaxhlm.studies.analytic import precision
from jaxhlm.studies.effects import SEMIDEFINITE_TOL, check_effects

if TYPE_CHECKING:
    from jaxhlm.results.fit import Fit

__all__ = ["Standardizer", "Truth", "replaced", "standardizer"]

Standardizer: TypeAlias = Literal["within", "between", "total"]


@dataclass(frozen=True, eq=False, repr=False)
class Truth(Printed):
    """True values of the parameters of a model.

    Attributes:
        beta: (p,) fixed effects, a sequence in the order of the columns, or a mapping by term.
        cov: (q, q) covariance Σ of the random effects.
        sigma: residual standard deviation.
        learned: of a truth that comes from a fit, what its terms learned there, such as the mean
            that ``center(x)`` subtracts; a mechanism on another frame uses it, so that the fixed
            effects mean there what they mean in the fit.

    Raises:
        OptionError: a value is not finite, Σ is not symmetric positive semi-definite, or σ is
            negative.

    Example:
        >>> truth = Truth.of(beta={"(Intercept)": 1, "x": 3}, sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> truth.cov.round(3).tolist()
        [[0.04, 0.09], [0.09, 0.25]]
        >>> print(truth)
        fixed effects (Intercept) = 1, x = 3; random effects sd 0.2, 0.5, corr 0.9; residual sd 0.75
    """

    beta: Sequence[float] | Mapping[str, float] | Floats
    cov: Floats
    sigma: float
    learned: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check that such a distribution exists."""
        cov = np.atleast_2d(finite_array("cov", self.cov))
        object.__setattr__(self, "cov", cov)
        values = list(self.beta.values()) if isinstance(self.beta, Mapping) else self.beta
        if finite_array("beta", values).ndim != 1:
            raise OptionError(f"beta must be one sequence of numbers, not {self.beta!r}")
        object.__setattr__(self, "sigma", number("sigma", self.sigma))
        if not cov.size:
            raise OptionError("sd, or cov, needs a number for every random effect")
        if cov.ndim != 2 or cov.shape[0] != cov.shape[1] or not np.allclose(cov, cov.T):
            raise OptionError(f"cov must be a symmetric matrix, not of shape {cov.shape}")
        smallest = np.linalg.eigvalsh(cov)[0]
        if smallest < -SEMIDEFINITE_TOL * max(np.abs(cov).max(), 1e-300):
            raise OptionError(
                f"cov is not positive semi-definite (smallest eigenvalue {smallest:.3g}): "
                "no random effects have these variances and correlations; bring the correlations "
                "closer to zero"
            )
        if not self.sigma >= 0.0:
            raise OptionError(f"sigma={self.sigma!r} must not be negative")

    def __str__(self) -> str:
        """The parameters in one line."""
        return "; ".join(f"{name} {text}" for name, text in self._told().items())

    def _blocks(self) -> list[Block]:
        return [[described({name.capitalize(): text for name, text in self._told().items()})]]

    def _told(self) -> dict[str, str]:
        named = self.beta.items() if isinstance(self.beta, Mapping) else ()
        beta = [f"{t} = {_short(v)}" for t, v in named] or map(_short, self.beta)
        random = f"sd {', '.join(map(_short, standard_errors(self.cov)))}"
        below = correlation(self.cov)[np.tril_indices(len(self.cov), -1)]
        # NaN is that of an effect which does not vary.
        if np.any(np.nan_to_num(below) != 0.0):
            random += f", corr {', '.join(_short(r) if np.isfinite(r) else '-' for r in below)}"
        return {
            "fixed effects": ", ".join(beta),
            "random effects": random,
            "residual sd": _short(self.sigma),
        }

    @staticmethod
    def of(
        beta: Sequence[float] | Mapping[str, float],
        sd: Sequence[float],
        corr: float | Floats = 0.0,
        sigma: float = 1.0,
        d: Mapping[str, float] | None = None,
        d_sd: Standardizer | None = None,
        partial_r2: Mapping[str, float] | None = None,
        design: Design | None = None,
    ) -> Truth:
        """From standard deviations and a correlation (q = 2), or a (q, q) correlation matrix.

        Partial R² is that of ``jaxhlm.effect_sizes`` (Edwards et al. 2008) on a design, at the
        variances of this truth, R² = λ/(λ + ν) with λ = β²/Var(β̂). Neither Var(β̂) nor ν depends on
        β, which is therefore

            β = √(ν Var(β̂) R²/(1 − R²)),

        not negative; change its sign in the ``beta`` of the truth where the effect is.

        Args:
            beta: fixed effects, by term or in order.
            sd: standard deviations of the random effects.
            corr: their correlation (q = 2), or a (q, q) correlation matrix.
            sigma: residual standard deviation.
            d: fixed effects as Cohen's d, by term, in place of those in ``beta``: β = d × SD, the
                change of the mean for one more in the column, such as from one level of a factor
                to the other. It is made here once: a curve along that SD keeps β and changes d.
            d_sd: the SD that d multiplies (Hedges 2007): "within" is σ, "between" τ, the standard
                deviation of the random intercepts, and "total" √(τ² + σ²), also that of Westfall
                et al. (2014). With random slopes these are the deviations at baseline, where their
                variables are 0. Without ``design`` the first of ``sd`` is to be the intercept's.
            partial_r2: fixed effects as partial R², by term, in place of those in ``beta``.
            design: from ``jaxhlm.design``, that partial R² is of, and that names the random effects
                for ``d_sd``. λ and ν grow alike with the number of units, so that R² on more of
                them is about the same.

        Raises:
            OptionError: as for ``Truth``; or d without ``d_sd``, or of a deviation that the design
                has not; ``partial_r2`` without ``design`` or not in [0, 1), or one of a term that
                is given twice; or a design on which the effect has no F test.
            UnknownTermError: ``partial_r2`` names no term of the design.

        Example:
            >>> beta = {"(Intercept)": 0, "visit": 1}
            >>> Truth.of(beta, sd=[3.0], sigma=4.0, d={"arm": 0.5}, d_sd="total").beta["arm"]
            2.5
            >>> import jaxhlm as hlm
            >>> design = hlm.design("~ x * a + (1 + x | unit)", hlm.load_dataset("article"))
            >>> options = {"sd": [0.2, 0.5], "corr": 0.9, "sigma": 0.75, "design": design}
            >>> beta = {"(Intercept)": 1, "x": 3, "a": -0.15}
            >>> truth = Truth.of(beta, **options, partial_r2={"x:a": 0.25})
            >>> round(truth.beta["x:a"], 3)
            0.325
        """
        scale = np.atleast_1d(finite_array("sd", sd))
        matrix = finite_array("corr", corr)
        if not (scale >= 0.0).all():
            raise OptionError(f"sd={sd!r}: standard deviations are finite and not negative")
        if scale.ndim != 1 or ((scale > 0.0) & (scale < 1.0 / LARGEST)).any():
            raise OptionError(f"sd={sd!r}: give one number for each random effect, 0 or no tinier")
        if matrix.ndim == 0:
            matrix = np.full((len(scale), len(scale)), float(matrix))
            np.fill_diagonal(matrix, 1.0)
        if matrix.shape != (len(scale), len(scale)) or not np.allclose(np.diag(matrix), 1.0):
            raise OptionError(
                f"corr must be one correlation, or a {len(scale)} × {len(scale)} matrix with a "
                f"diagonal of ones, for the {len(scale)} random effect(s) of sd"
            )
        if (np.abs(matrix) > 1.0 + SEMIDEFINITE_TOL).any():
            raise OptionError(f"corr={corr!r}: correlations lie between -1 and 1")
        cov = np.outer(scale, scale) * matrix
        if design is not None and not isinstance(design, Design):
            raise OptionError(f"design={design!r}: give jaxhlm.design(formula, data)")
        names = None if design is None else design.znames
        if design is not None:
            check_effects(cov, design)
        if d is not None or d_sd is not None:
            sd_of_d = standardizer(d_sd, cov, number("sigma", sigma), names)
            beta = _beside(beta, "d", "beta", _from_d(d, sd_of_d))
        if partial_r2 is not None or (design is not None and d is None):
            found = _from_partial_r2(partial_r2, design, cov, number("sigma", sigma))
            beta = _beside(beta, "partial_r2", "beta" if d is None else "beta or d", found)
        return Truth(beta, cov, sigma)

    @staticmethod
    def from_fit(
        fit: Fit,
        beta: Mapping[str, float] | None = None,
        sd: Sequence[float] | Mapping[str, float] | None = None,
        corr: float | Floats | None = None,
        sigma: float | None = None,
    ) -> Truth:
        """The estimates of a fit, some of them replaced by values of your choice.

        Power at an estimate from the same data ("observed power") says nothing that its p value
        does not; put the smallest effect of interest in its place.

        Args:
            fit: a fit, all of whose terms the truth gets.
            beta: fixed effects to replace, by term.
            sd: standard deviations of the random effects to replace, all in order or some by term;
                the correlations stay. Beside an estimated variance of zero they are taken as zero.
            corr: correlation (q = 2) or (q, q) correlation matrix to put in their place.
            sigma: residual standard deviation.

        Raises:
            UnknownTermError: the fit has no such term.
            OptionError: as for ``Truth``.

        Example:
            >>> import jaxhlm as hlm
            >>> data = hlm.load_dataset("sleepstudy")
            >>> fit = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
            >>> truth = hlm.Truth.from_fit(fit, beta={"Days": 5.0})
            >>> {term: round(value, 1) for term, value in truth.beta.items()}
            {'(Intercept)': 251.4, 'Days': 5.0}
        """
        if getattr(getattr(fit, "fixef", None), "ndim", 0) != 1:
            raise OptionError(f"{type(fit).__name__} is no single Fit; give one, such as fits[0]")
        chosen = replaced("beta", dict(fit.fixef), beta)
        cov = fit.varcorr.cov.to_numpy()
        residual = float(fit.sigma) if sigma is None else number("sigma", sigma)
        learned = fit.design.learned
        if sd is None and corr is None:
            return Truth(chosen, cov, residual, learned)
        scale = standard_errors(cov)
        if corr is None:
            estimated = correlation(cov)
            corr = np.where(np.isnan(estimated), np.eye(len(cov)), estimated)
        if isinstance(sd, Mapping):
            sd = list(replaced("sd", dict(fit.varcorr.sd), sd).values())
        new = scale if sd is None else finite_array("sd", sd)
        if new.shape != scale.shape:
            raise OptionError(
                f"sd has {new.size} value(s), the fit {scale.size} random effect(s): "
                + ", ".join(fit.varcorr.cov.index)
            )
        return replace(Truth.of(chosen, new.tolist(), corr, residual), learned=learned)

    def check_learned(self, learned: Mapping[str, Any]) -> None:
        """Refuse a design whose terms learned other numbers than those of the fit.

        Raises:
            OptionError: a term of both means another thing in each.
        """
        for text, value in learned.items():
            known = (self.learned or {}).get(text, value)
            if not _alike(known, value):
                raise OptionError(
                    f"the truth comes from a fit in which {text} was learned from other rows, so "
                    "coefficients mean something else on this design; jaxhlm.mechanism(formula, "
                    "frame, truth) takes means and scales from the fit, and needs its levels"
                )

    def fixed(self, terms: Sequence[str]) -> Floats:
        """(p,) fixed effects in the order of ``terms``.

        Raises:
            OptionError: a term is missing or unknown, or their number is wrong.
        """
        if isinstance(self.beta, Mapping):
            if set(self.beta) != set(terms):
                odd = sorted(set(self.beta) ^ set(terms))
                raise OptionError(
                    f"beta and the model differ in {', '.join(odd)}; the model has "
                    + ", ".join(terms)
                )
            return np.array([self.beta[t] for t in terms], dtype=float)
        beta = finite_array("beta", self.beta)
        if beta.shape != (len(terms),):
            raise OptionError(
                f"beta has {beta.size} value(s), the model {len(terms)}: {', '.join(terms)}"
            )
        return beta


def standardizer(
    d_sd: Standardizer | None, cov: Floats, sigma: float, names: Sequence[str] | None
) -> float:
    """The standard deviation that Cohen's d divides by.

    Args:
        d_sd: which, as for ``Truth.of``.
        cov: (q, q) covariance of the random effects.
        sigma: residual standard deviation.
        names: of the random effects; None where the first of them is the intercept.

    Raises:
        OptionError: there is no such choice, no random intercept, or the deviation is zero.
    """
    if d_sd is None:
        raise OptionError('d needs d_sd: the SD that it multiplies, "within", "between" or "total"')
    check_option("d_sd", d_sd, Standardizer)
    variance = 0.0 if d_sd == "between" else sigma**2
    if d_sd != "within":
        names = ["(Intercept)"] if names is None else list(names)
        if "(Intercept)" not in names:
            raise OptionError(
                f"d_sd={d_sd!r} is of random intercepts, which the model has not (it has "
                f'{", ".join(names)}); take d_sd="within", or give the effect in beta'
            )
        at = names.index("(Intercept)")
        variance += float(cov[at, at])
    if not variance > 0.0:
        raise OptionError(f"d_sd={d_sd!r}: that standard deviation is 0 in this truth")
    return float(np.sqrt(variance))


def _from_d(d: Mapping[str, float] | None, sd: float) -> dict[str, float]:
    """Fixed effects by term, d times the standard deviation."""
    if d is None:
        raise OptionError("d_sd is of d, which is missing: give the terms with their d")
    return {term: sd * number(f"d[{term!r}]", x) for term, x in check_mapping("d", d).items()}


def _from_partial_r2(
    partial_r2: Mapping[str, float] | None, design: Design | None, cov: Floats, sigma: float
) -> dict[str, float]:
    """Fixed effects by term, √(ν Var(β̂) R²/(1 − R²))."""
    if partial_r2 is None:
        raise OptionError("design is that of partial_r2, which is missing: give the terms with it")
    if design is None:
        raise OptionError("partial_r2 needs design=jaxhlm.design(formula, data), which it is of")
    if not sigma > 0.0:
        raise OptionError(f"partial_r2 needs residual variance, which sigma={sigma!r} leaves out")
    names, found = design.xnames, {}
    without = Truth(np.zeros(design.p), cov, sigma)
    for term, given in check_mapping("partial_r2", partial_r2).items():
        if term not in names:
            raise UnknownTermError(
                f"partial_r2 names {term!r}, which the design has not; its terms are "
                + ", ".join(names)
            )
        r2 = number(f"partial_r2[{term!r}]", given)
        if not 0.0 <= r2 < 1.0:
            raise OptionError(f"partial_r2[{term!r}]={given!r} must be at least 0 and less than 1")
        one = precision(design, without, np.eye(design.p)[[names.index(term)]])
        size = one.df[0] * one.cov[0, 0]
        if not (np.isfinite(size) and size > 0.0):
            raise OptionError(
                f"partial_r2[{term!r}]: with so few units nothing is left on this design to test "
                f"{term} by; give it in beta"
            )
        found[term] = float(np.sqrt(size * r2 / (1.0 - r2)))
    return found


def _beside(
    beta: Sequence[float] | Mapping[str, float], name: str, others: str, found: dict[str, float]
) -> dict[str, float]:
    """Fixed effects by term, those ``found`` from another argument beside the others."""
    if not isinstance(beta, Mapping):
        raise OptionError(f"beta must be a mapping by term where {name} gives some of the terms")
    if both := [term for term in found if term in beta]:
        raise OptionError(f"{name} and {others} both give {both[0]!r}; give it once")
    return {**beta, **found}


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b))


def _short(value: float) -> str:
    return f"{value:.4g}"


def replaced(
    name: str, values: dict[str, float], chosen: Mapping[str, float] | None
) -> dict[str, float]:
    """Values by term with those chosen in their place."""
    chosen = {} if chosen is None else check_mapping(name, chosen)
    unknown = [term for term in chosen if term not in values]
    if unknown:
        raise UnknownTermError(
            f"{name} names {unknown[0]!r}, which the fit has not; its terms are "
            + ", ".join(values)
        )
    checked = {term: number(f"{name}[{term!r}]", value) for term, value in chosen.items()}
    return {term: float(value) for term, value in {**values, **checked}.items()}
