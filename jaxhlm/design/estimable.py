"""Which linear functions of β a rank-deficient X determines.

c'β is estimable if c is in the row space of X (Searle 1971, Linear Models, chapter 5): with
X_dropped = X_kept · alias, if c_dropped = alias'c_kept. Its value is then c_kept'β̂, whichever
columns were dropped.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from jaxhlm.core.notation import Bools, Floats, NotEstimable, check_option
from jaxhlm.errors import NotEstimableError, NotEstimableWarning, warn_user

__all__ = ["determined", "estimable"]

# Coefficients that a user writes are exact; rows carry the rounding within which columns of X were
# found to depend on others (``design/checks.py``).
CONTRAST_TOL, ROW_TOL = 1e-8, 2e-7
ROUNDING = 1e-14
SHOWN = 6


def estimable(kept: Floats, dropped: Floats, alias: Floats, tol: float = CONTRAST_TOL) -> Bools:
    """(…,) whether linear functions of β have a unique value.

    Args:
        kept: (…, p) coefficients of the columns of X that were kept.
        dropped: (…, d) of those that were dropped.
        alias: (p, d) what these are in terms of the others.
        tol: share of the terms of a sum below which its residual counts as rounding.

    >>> kept, dropped, alias = np.array([[1.0], [1.0]]), np.array([[2.0], [3.0]]), np.array([[2.0]])
    >>> estimable(kept, dropped, alias).tolist()
    [True, False]
    """
    gap = np.abs(dropped - kept @ alias)
    size = np.abs(dropped) + np.abs(kept) @ np.abs(alias)
    # Differences of rows leave rounding where the rows themselves cancel.
    largest = np.abs(np.concatenate([kept, dropped], axis=-1)).max(axis=-1, keepdims=True)
    return (gap <= tol * size + ROUNDING * largest).all(axis=-1)


def determined(
    kept: Floats,
    dropped: Floats,
    alias: Floats,
    labels: Iterable[object],
    what: str,
    option: NotEstimable,
) -> Floats:
    """Rows over the kept columns, NaN where their value is not estimable.

    Args:
        kept: (…, p), dropped: (…, d), alias: (p, d): as for ``estimable``; a row that holds NaN,
            for a missing value, is left as it is.
        labels: what to call the rows, all axes but the last in order.
        what: what they are, such as "rows of newdata".
        option: "nan", with a warning that counts them, or "error".

    Raises:
        NotEstimableError: under "error", where a row is not estimable.
    """
    check_option("not_estimable", option, NotEstimable)
    if not alias.shape[1]:
        return kept
    known = np.isfinite(kept).all(axis=-1) & np.isfinite(dropped).all(axis=-1)
    lost = known & ~estimable(kept, dropped, alias, ROW_TOL)
    if not lost.any():
        return kept
    names = list(dict.fromkeys(x for x, bad in zip(labels, lost.ravel(), strict=True) if bad))
    shown = ", ".join([*map(str, names[:SHOWN]), *["…"] * (len(names) > SHOWN)])
    text = (
        f"{int(lost.sum())} of {lost.size} {what} are not estimable ({shown}): X is rank deficient "
    )
    text += "and the data do not determine the columns that it lost (fit.design.dropped_columns)"
    if option == "error":
        raise NotEstimableError(f'{text}; pass not_estimable="nan" for the others')
    warn_user(f"{text}; these are NaN", NotEstimableWarning)
    return np.where(lost[..., None], np.nan, kept)
