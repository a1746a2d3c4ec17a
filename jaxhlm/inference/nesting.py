"""Whether one model is nested in another, and if so how their likelihood ratio is distributed.

A random term of the smaller model must lie in one random term of the larger: its columns of Z are
combinations of that term's. What the larger term has beyond those decides the distribution of the
likelihood ratio when the smaller model holds:

* covariances only, the same columns (``(1 + x || g)`` in ``(1 + x | g)``): χ², nothing is at the
  boundary as long as the variances are not zero;
* one column more: its variance is zero, at the boundary, and its c covariances with the others
  vanish with it: ½ χ²(c) + ½ χ²(c + 1), and k further covariances add k to both (Self & Liang 1987;
  Stram & Lee 1994);
* several terms with one column more each: the distributions of independent sums, for one variance
  each the binomial mixture Σ C(k, j) 2⁻ᵏ χ²(j). It holds where their information is diagonal, as
  for columns orthogonal within groups (Self & Liang 1987), and is close elsewhere;
* two or more columns more in one term: the weights depend on the information (Stram & Lee
  1994), there is no simple mixture, and only the plain χ², which is conservative, is given.

Fixed effects of the larger model add one degree of freedom each to every component.
"""

from __future__ import annotations

import numpy as np

from jaxhlm.core.notation import Bools, Floats
from jaxhlm.design.design import Design
from jaxhlm.errors import NotNestedError
from jaxhlm.inference.mixtures import Mixture

__all__ = [
    "boundary_mixture",
    "contained",
    "null_distribution",
    "offset_gap",
    "offset_within",
    "same_response",
]

SPAN_TOL = 1e-8
# Responses less other offsets are the same but for rounding.
SAME = 1e-12


def null_distribution(smaller: Design, larger: Design) -> Mixture | None:
    """The distribution of the likelihood ratio under the smaller model; None if no simple mixture.

    Args:
        smaller, larger: designs on the same rows.

    Raises:
        NotNestedError: a column of the smaller model's X, or one of its random terms, is not in the
            larger model.
    """
    inside = contained(smaller.X, larger.X)
    if not inside.all():
        name = smaller.xnames[int(np.flatnonzero(~inside)[0])]
        raise NotNestedError(
            f"the models are not nested: {name!r} of the smaller model ({smaller.formula}) is no "
            f"combination of the fixed effects of the larger ({larger.formula}); compare their AIC "
            "with jaxhlm.compare"
        )
    if not offset_within(smaller, larger):
        raise NotNestedError(
            f"the models are not nested: the offset of the smaller model ({smaller.formula}) is not"
            f" that of the larger ({larger.formula}) and a combination of its fixed effects; "
            "compare their AIC with jaxhlm.compare"
        )
    fixed = larger.X.shape[1] - smaller.X.shape[1]
    random = _random_part(smaller, larger)
    return None if random is None else Mixture.regular(fixed) * random


def offset_gap(a: Design, b: Design) -> Floats | None:
    """(n,) the offset of one model less that of another; None if they are the same."""
    if a.offset is None and b.offset is None:
        return None
    gap = (0.0 if a.offset is None else a.offset) - (0.0 if b.offset is None else b.offset)
    return np.asarray(gap) if np.any(gap) else None


def offset_within(smaller: Design, larger: Design) -> bool:
    """Whether the larger model can make up for another offset, as β = 1 of a column does."""
    gap = offset_gap(smaller, larger)
    return gap is None or bool(contained(gap[:, None], larger.X).all())


def same_response(a: Design, b: Design) -> bool:
    """Whether two designs of the same rows have the same response, whatever their offsets."""
    assert a.y is not None and b.y is not None
    gap = offset_gap(a, b)
    if gap is None:
        return np.array_equal(a.y, b.y)
    rounding = SAME * max(np.abs(x).max() for x in (a.y, b.y, gap))
    return bool((np.abs(a.y - b.y + gap) <= rounding).all())


def contained(part: Floats, full: Floats) -> Bools:
    """(p,) whether columns of ``part`` (n, p) are combinations of those of ``full`` (n, …)."""
    scale = np.linalg.norm(full, axis=0)
    full = full / np.where(scale > 0.0, scale, 1.0)
    size = np.linalg.norm(part, axis=0)
    residual = part - full @ np.linalg.lstsq(full, part, rcond=None)[0]
    return np.asarray(np.linalg.norm(residual, axis=0) <= SPAN_TOL * size)


def _random_part(smaller: Design, larger: Design) -> Mixture | None:
    if not _same_groups(smaller, larger):
        raise NotNestedError(
            f"the models are not nested: the units of {smaller.group_name!r} are not those of "
            f"{larger.group_name!r}; compare their AIC with jaxhlm.compare"
        )
    inside: dict[int, list[int]] = {i: [] for i in range(len(larger.blocks))}
    for block in smaller.blocks:
        columns = smaller.Z[:, list(block)]
        homes = [
            i
            for i, other in enumerate(larger.blocks)
            if contained(columns, larger.Z[:, list(other)]).all()
        ]
        if not homes:
            names = ", ".join(smaller.znames[a] for a in block)
            raise NotNestedError(
                f"the models are not nested: the random term of {names} in the smaller model "
                f"({smaller.formula}) lies in no random term of the larger ({larger.formula}); "
                "compare their AIC with jaxhlm.compare"
            )
        inside[homes[0]].append(len(block))
    mixture: Mixture | None = Mixture.regular(0)
    for i, sizes in inside.items():
        part = boundary_mixture(len(larger.blocks[i]), sizes)
        mixture = None if mixture is None or part is None else mixture * part
    return mixture


def boundary_mixture(columns: int, sizes: list[int]) -> Mixture | None:
    """The distribution for one random term of ``columns``, cut to terms of ``sizes`` in it."""
    kept = sum(sizes)
    within = kept * (kept + 1) // 2 - sum(s * (s + 1) // 2 for s in sizes)
    if kept == columns:
        return Mixture.regular(within)
    if kept == columns - 1:
        return Mixture.one_variance(kept) * Mixture.regular(within)
    return None


def _same_groups(a: Design, b: Design) -> bool:
    """Whether the rows are divided into the same units, whatever they are called."""
    pairs = np.unique(np.stack([a.group, b.group]), axis=1).shape[1]
    return pairs == a.G == b.G
