"""Clusters that are given by row: those that the groups of some fits lie in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxhlm.core.notation import Ints
from jaxhlm.design.columns import listed
from jaxhlm.design.design import Design
from jaxhlm.design.grouping import factorized
from jaxhlm.design.missing_values import missing
from jaxhlm.errors import OptionError
from jaxhlm.results.record import FitRecord
from jaxhlm.statistics.observations import Observations

__all__ = ["clusters_of", "row_clusters"]


def row_clusters(cluster: Any, design: Design) -> Ints:
    """(n,) cluster of every row that was fitted, as numbers.

    Args:
        cluster: one label for every row of the data, or of the rows that were fitted; a Series with
            their index.
        design: the rows.

    Raises:
        OptionError: it is anything else, or has missing values or one label only.
    """
    if isinstance(cluster, str) or np.ndim(cluster) != 1:
        raise OptionError(
            "cluster must hold one label for every row of the data, such as data['school']"
        )
    column = pd.Series(cluster).rename("cluster")
    if len(column) == len(design.kept):
        column = column[design.kept]
    if len(column) != design.n:
        raise OptionError(
            f"cluster has {len(column):,} labels, but {design.n:,} rows of {len(design.kept):,} "
            "were fitted; give one for each of them, or for each row of the data"
        )
    if isinstance(cluster, pd.Series) and not column.index.equals(design.index):
        raise OptionError(
            "cluster has another index than the rows that were fitted; align it, or pass "
            "cluster.to_numpy() to match by position"
        )
    if missing(column).any():
        raise OptionError("cluster has missing values; give every row a label")
    codes, labels = factorized(column.reset_index(drop=True), "argument")
    if len(labels) < 2:
        raise OptionError("cluster has one label only; robust covariances need several clusters")
    return codes


def clusters_of(fits: FitRecord, rows: Observations, of_row: Ints) -> Ints:
    """(G, b) numbers, within every lane, of the clusters that its groups lie in; −1 for padding.

    Args:
        fits: the labels.
        rows: of some lanes.
        of_row: ``row_clusters``.

    Raises:
        OptionError: a group lies in several clusters.
    """
    groups, (number, lane) = rows.matrices.group_segments, rows.matrices.position
    own = of_row[rows.row]
    lowest = np.minimum.reduceat(own, groups.starts)
    split = lowest != np.maximum.reduceat(own, groups.starts)
    if split.any():
        raise OptionError(
            f"cluster differs within level(s) {listed(fits.rows.design.levels[rows.level[split]])} "
            f"of {fits.model.group_name}; clusters must be made of whole groups, since rows of one "
            "group are correlated"
        )
    _, place = np.unique(lane * (of_row.max() + 1) + lowest, return_inverse=True)
    found = np.full((number.max() + 1, lane.max() + 1), -1)
    found[number, lane] = place
    return np.where(found >= 0, found - np.where(found >= 0, found, len(own)).min(axis=0), -1)
