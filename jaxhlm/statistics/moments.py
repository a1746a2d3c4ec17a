"""Moments of the rows of X and Z: what the variance explained and the ICC need of a design."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxhlm.core.notation import Bools, Floats, Ints
from jaxhlm.design.segments import Segments
from jaxhlm.statistics.standardise import Rows

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["RowMoments", "column_means", "row_moments"]


class RowMoments(NamedTuple):
    """Moments of the rows; b is 1 when all lanes share a design."""

    X_cov: Float[Floats, "b p p"]  # sample covariance of the rows of X
    ZZ: Float[Floats, "b q q"]  # mean of z_j z_j'
    Z_mean: Float[Floats, "b q"]


def row_moments(rows: Rows) -> RowMoments:
    """Moments of the rows of every lane."""
    lanes = Segments(rows.lane)
    n = lanes.lengths[:, None, None].astype(float)
    X = rows.X - lanes.broadcast(lanes.sum(rows.X) / n[:, 0])
    X_cov = lanes.gram(X) / np.maximum(n - 1.0, 1.0)
    return RowMoments(X_cov, lanes.gram(rows.Z) / n, lanes.sum(rows.Z) / n[:, 0])


def column_means(columns: Sequence[Floats | Bools], lane: Ints) -> Floats:
    """(b, columns) means of columns (n,) in every lane.

    Args:
        columns: values by row.
        lane: (n,) lane of every row, non-decreasing.
    """
    lane_segments = Segments(lane)
    sums = [lane_segments.sum(np.asarray(x, dtype=float)) for x in columns]
    lengths = lane_segments.lengths
    return np.array(sums).reshape(len(columns), len(lengths)).T / lengths[:, None]
