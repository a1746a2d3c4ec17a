"""Tables of any library, as the pandas DataFrames that the package computes with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from jaxhlm.errors import JaxhlmError, OptionError

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

__all__ = ["Table", "as_frame"]

# Columns by name, or a table of pandas, polars, pyarrow or another library that narwhals reads.
Table: TypeAlias = "pd.DataFrame | Mapping[str, Any] | IntoDataFrame"


def as_frame(name: str, value: Any) -> pd.DataFrame:
    """A table as a DataFrame: itself, or converted once, with types that say the same.

    Args:
        name: what to call it.
        value: a ``Table``.

    Raises:
        OptionError: it is no table, one that is not computed yet, or columns of several lengths.
        JaxhlmError: pyarrow, which converts it, is not installed.

    >>> as_frame("data", {"x": [1, 2], "g": ["a", "b"]}).shape
    (2, 2)
    """
    if isinstance(value, pd.DataFrame):
        return value
    if isinstance(value, Mapping):
        return _of_columns(name, value)
    # Imported by formulaic already.
    import narwhals.stable.v1 as nw

    table = nw.from_native(value, pass_through=True)
    if isinstance(table, nw.LazyFrame):
        raise OptionError(f"{name} is a table that is not computed yet; collect or compute it")
    if isinstance(table, nw.DataFrame):
        return _converted(name, table)
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}."
    made = "; its to_pandas() makes one" if hasattr(kind, "to_pandas") else ""
    raise OptionError(
        f"{name} must be a table of pandas, polars or pyarrow, or a dict of columns, got "
        f"{module}{kind.__name__}{made}"
    )


def _of_columns(name: str, columns: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.DataFrame(dict(columns))
    except (ValueError, TypeError) as error:
        raise OptionError(f"{name} is no dict of columns of one length: {error}") from None


def _converted(name: str, table: Any) -> pd.DataFrame:
    try:
        found: pd.DataFrame = table.to_pandas()
    except ModuleNotFoundError as error:
        raise JaxhlmError(
            f'{name}: such tables need pyarrow: pip install "jaxhlm[parquet]"'
        ) from error
    return found
