"""Tables in files, as the command line gets them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from jaxhlm.errors import OptionError

__all__ = ["read_table"]


def read_table(path: Path) -> pd.DataFrame:
    """A data frame from a .csv, .csv.gz or .parquet file.

    Raises:
        OptionError: another ending, or contents that cannot be read.
        OSError: the file cannot be opened.
    """
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(path)
        if name.endswith((".csv", ".csv.gz")):
            return pd.read_csv(path)
    # pandas and pyarrow derive all that they say about a file's contents from ValueError.
    except (ValueError, ImportError) as error:
        raise OptionError(f"cannot read {path}: {error}") from error
    raise OptionError(f"{path}: give a file that ends in .csv, .csv.gz or .parquet")
