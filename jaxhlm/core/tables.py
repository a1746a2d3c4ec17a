"""Tables of any library, as the pandas DataFrames that the package computes with, and results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import pandas as pd

from jaxhlm.core.document import as_html
from jaxhlm.core.files import reason_of
from jaxhlm.errors import JaxhlmError, OptionError

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

__all__ = ["Shown", "Table", "as_frame", "converting", "kind_of"]

# Columns by name, or a table of pandas, polars, pyarrow or another library that narwhals reads.
Table: TypeAlias = "pd.DataFrame | Mapping[str, Any] | IntoDataFrame"


class _AnyFrame(type):
    """A class that any DataFrame is an instance of: pandas.testing compares frames only then."""

    def __instancecheck__(cls, instance: Any) -> bool:
        """Whether it is a DataFrame."""
        return isinstance(instance, pd.DataFrame)


class Shown(pd.DataFrame, metaclass=_AnyFrame):
    """A DataFrame that prints all of its columns, some below the others, and lines below itself.

    Pandas leaves columns out where a terminal is too narrow; so it does here once a user has set
    ``display.max_columns``. What is made of it is a DataFrame as any other.

    Attributes:
        notes: lines below the table.

    >>> Shown({"x": [1.5]}, ["Confidence level: 0.95"])
         x
    0  1.5
    Confidence level: 0.95
    """

    # Names that pandas takes for attributes, not for columns.
    _metadata: ClassVar[list[str]] = ["notes"]

    def __init__(self, data: Any, notes: Iterable[str] = ()) -> None:
        """A frame with its notes."""
        super().__init__(data)
        self.notes = tuple(notes)

    def __repr__(self) -> str:
        """As pandas prints it, with all columns, and the notes."""
        option = pd.get_option
        table = self.to_string(
            max_rows=option("display.max_rows"),
            min_rows=option("display.min_rows"),
            # 0, which pandas begins with, is as many as the terminal is wide.
            max_cols=option("display.max_columns") or None,
            line_width=option("display.width") if option("display.expand_frame_repr") else None,
            show_dimensions=option("display.show_dimensions"),
        )
        return "\n".join([table, *self.notes])

    def _repr_html_(self) -> str:
        """What notebooks show."""
        table: str = super()._repr_html_()
        return "\n".join([table, as_html([self.notes])]) if self.notes else table


def as_frame(name: str, value: Any) -> pd.DataFrame:
    """A table as a DataFrame: itself, or converted once, with types that say the same.

    The levels of a Categorical of polars are in the order of the alphabet, as those of text are,
    and as polars sorts them; those of an Enum in its own.

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

    with converting(name, value):
        table = nw.from_native(value, pass_through=True)
        if isinstance(table, nw.LazyFrame):
            raise OptionError(f"{name} is a table that is not computed yet; collect or compute it")
        if isinstance(table, nw.DataFrame):
            return _converted(name, table)
    raise OptionError(
        f"{name} must be a table of pandas, polars or pyarrow, or a dict of columns, got "
        f"{kind_of(value)}{_made(value)}"
    )


@contextmanager
def converting(name: str, value: Any) -> Iterator[None]:
    """Say of whatever another library raises over a table of its own which table it is.

    Raises:
        OptionError: it cannot be converted.
    """
    try:
        yield
    except JaxhlmError:
        raise
    # Every library has errors of its own.
    except Exception as error:
        raise OptionError(
            f"{name} cannot be read from this {kind_of(value)}: {reason_of(error)}{_made(value)}"
        ) from error


def kind_of(value: Any) -> str:
    """The type of a thing, and the library that it is of."""
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}."
    return f"{module}{kind.__name__}"


def _made(value: Any) -> str:
    """What makes a table of it, if anything does."""
    return "; its to_pandas() makes a table" if hasattr(value, "to_pandas") else ""


def _of_columns(name: str, columns: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.DataFrame(dict(columns))
    except (ValueError, TypeError) as error:
        raise OptionError(f"{name} is no dict of columns of one length: {error}") from None


def _converted(name: str, table: Any) -> pd.DataFrame:
    import narwhals.stable.v1 as nw

    try:
        found: pd.DataFrame = table.to_pandas()
    except ModuleNotFoundError as error:
        raise JaxhlmError(
            f'{name}: such tables need pyarrow: pip install "jaxhlm[parquet]"'
        ) from error
    if table.implementation.is_polars():
        # Polars sorts a Categorical as text, and hands its levels over in the order of the rows.
        for column in table.select(nw.selectors.by_dtype(nw.Categorical)).columns:
            levels = found[column].cat
            found[column] = levels.reorder_categories(sorted(levels.categories))
    return found
