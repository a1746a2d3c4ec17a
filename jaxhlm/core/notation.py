"""The letters, sizes and words used throughout the package, and the types of its options.

Letters follow Bates, Mächler, Bolker & Walker (2015), J. Stat. Softw. 67(1); the article that
this package starts from writes φ where they, and we, write β.

==========  ===============  ===================================================================
letter      shape            meaning
==========  ===============  ===================================================================
y           (n,)             response
X           (n, p)           fixed-effects model matrix
Z           (n, q)           random-effects model matrix, one row of it for the unit of that row
beta        (p,)             fixed effects (φ in the article)
b           (G, q)           random effects, b_i ~ N(0, σ² Λ Λ')
Lambda      (q, q)           relative covariance factor, lower triangular, diagonal ≥ 0 if reported
theta       (k,)             free entries of Lambda, column by column
D           (q, q)           Λ Λ', the relative covariance; Σ = σ² D is the covariance
sigma       ()               residual standard deviation
pwrss       ()               penalised weighted residual sum of squares at the optimum over b, β
==========  ===============  ===================================================================

Sizes: B lanes, G groups, n rows, p fixed effects, q random effects per group, k = len(theta).
Arrays of many lanes have them on the LAST axis inside the engine (XLA vectorises over it)
and on the first axis in everything a user sees. Where all lanes share one X and one Z, arrays of
these have a lane axis of 1: sizes b are 1 or B.

Words:

* lane: one data set, or one response on a shared design, among the B that are computed at once, as
  an element of a vector is by a lane of a SIMD processor. ``lane_index`` selects some by number,
  ``lane_slice`` selects consecutive ones, and ``lane_segments`` are the runs of their rows.
* design: what a formula makes of a frame, a ``Design``; its X and Z are model matrices.
* group: rows that share their random effects; users and simulations know it as a unit.
* truth: the parameters that data are simulated from, β, Σ and σ, a ``Truth``.
* mechanism: how data are generated: a design, a truth and violations of the model's assumptions,
  a ``Mechanism``; the data-generating mechanism of Morris, White & Crowther (2019).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from jaxhlm.errors import OptionError

__all__ = [
    "Array",
    "Bools",
    "BootstrapInterval",
    "BootstrapMethod",
    "Floats",
    "IntervalMethod",
    "Ints",
    "LaneIndex",
    "Leverage",
    "NewLevels",
    "NotEstimable",
    "Precision",
    "ResponsesIn",
    "WildWeights",
    "check_option",
]

# A NumPy or a JAX array, or a matrix of entries (``linalg.small``): no union of these would be of
# use to a type checker. ``Float[Array, "k B"]`` says the shape, in the notation of jaxtyping.
Array: TypeAlias = Any

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# Some lanes: consecutive ones, or by number; they may repeat.
LaneIndex: TypeAlias = slice | Ints

IntervalMethod = Literal["wald", "profile", "boot"]
NewLevels = Literal["population", "error"]
NotEstimable = Literal["nan", "error"]
BootstrapMethod = Literal["parametric", "residual", "cases", "wild"]
BootstrapInterval = Literal["percentile", "basic", "bca", "normal"]
WildWeights = Literal["rademacher", "mammen", "webb"]
Leverage = Literal["hc2", "hc3", "none"]
Precision = Literal["float64", "float32"]
ResponsesIn = Literal["columns", "rows"]


def check_option(name: str, value: object, literal: object) -> None:
    """Raise ``OptionError`` unless ``value`` is one of the members of the ``Literal`` type."""
    allowed = get_args(literal)
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise OptionError(f"{name}={value!r} is not known; use one of {choices}")
