"""What jaxhlm raises and what it warns of: one class per cause, so that one cause can be filtered.

Every exception is a `JaxhlmError` and also the builtin a reader would expect:

>>> issubclass(MissingColumnError, KeyError)
True
>>> str(MissingColumnError("no column 'x'"))
"no column 'x'"
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

from jaxhlm.core.scopes import within

if TYPE_CHECKING:
    from jaxhlm.core.notation import Ints

__all__ = [
    "AmbiguousDropoutWarning",
    "ComparisonError",
    "ConstantResponseError",
    "ContrastError",
    "ConvergenceWarning",
    "DegenerateWarning",
    "DeviceError",
    "DeviceMemoryWarning",
    "DifferentRowsError",
    "ExecutorError",
    "FileError",
    "FileWarning",
    "FolderError",
    "ForkedProcessError",
    "FormulaError",
    "GroupingError",
    "IdentifiabilityError",
    "InterruptedFitsWarning",
    "JaxhlmError",
    "JaxhlmWarning",
    "MissingColumnError",
    "MixedMethodsError",
    "NeedsRemlError",
    "NewLevelError",
    "NoRowsError",
    "NonFiniteError",
    "NotEstimableError",
    "NotEstimableWarning",
    "NotNestedError",
    "NotNumericError",
    "NumbersAsTextWarning",
    "OneDrawWarning",
    "OptionError",
    "RankDeficientWarning",
    "ResamplingError",
    "ResponseShapeError",
    "RowsDroppedWarning",
    "ScatteredRowsWarning",
    "SingularFitWarning",
    "StudyFileError",
    "StudyFolderError",
    "TargetError",
    "TaskError",
    "UnknownFitError",
    "UnknownTermError",
    "UnsupportedTermError",
    "WeightsError",
    "failures_counted",
    "muted",
    "said_by",
    "warn_user",
]


class JaxhlmError(Exception):
    """Base of every exception that jaxhlm raises on purpose."""

    def __str__(self) -> str:
        """Return the message as written; KeyError would print its repr."""
        return " ".join(map(str, self.args))


class FormulaError(JaxhlmError, ValueError):
    """The formula cannot be read or evaluated."""


class UnsupportedTermError(FormulaError):
    """The formula is well formed but asks for a model outside jaxhlm's scope."""


class MissingColumnError(JaxhlmError, KeyError):
    """A column named by the formula, or given as weights, is not in the data."""


class NotNumericError(JaxhlmError, TypeError):
    """A column that must be numeric holds something else."""


class NonFiniteError(JaxhlmError, ValueError):
    """A column holds an infinite value, or a transform in the formula made one or a NaN.

    Attributes:
        rows: positions of such rows, among those that no value misses.
    """

    def __init__(self, message: str, rows: Ints | Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = rows


class NoRowsError(JaxhlmError, ValueError):
    """No row is left once those with missing values are gone."""


class GroupingError(JaxhlmError, ValueError):
    """The grouping factor has a single level, or labels that cannot serve as levels."""


class IdentifiabilityError(JaxhlmError, ValueError):
    """The data cannot tell the parameters of the model apart."""


class ConstantResponseError(JaxhlmError, ValueError):
    """The response has the same value in every row."""


class WeightsError(JaxhlmError, ValueError):
    """The weights have the wrong length or type, or are not all positive."""


class ResponseShapeError(JaxhlmError, ValueError):
    """A response matrix does not have one row for each row of the data."""


class NewLevelError(JaxhlmError, ValueError):
    """New data hold a factor level that the fit has not seen."""


class UnknownFitError(JaxhlmError, KeyError, IndexError):
    """A batch holds no fit of that label, or none at that position."""


class UnknownTermError(JaxhlmError, KeyError):
    """A hypothesis names a fixed effect, or marginal means a variable, that the model has not."""


class ContrastError(JaxhlmError, ValueError):
    """A hypothesis cannot be read, or its shape does not fit the model."""


class NotEstimableError(JaxhlmError, ValueError):
    """A contrast depends on columns that were dropped because others determine them."""


class NeedsRemlError(JaxhlmError, ValueError):
    """A method that is defined for REML fits only was asked of a maximum likelihood fit."""


class DifferentRowsError(JaxhlmError, ValueError):
    """Models that are to be compared were fitted to different rows or responses."""


class NotNestedError(JaxhlmError, ValueError):
    """Models that are to be tested against each other are not nested."""


class MixedMethodsError(JaxhlmError, ValueError):
    """Likelihoods are not on one scale: REML and ML, or REML with other fixed effects."""


class OptionError(JaxhlmError, ValueError):
    """An option has a value outside those allowed."""


class ResamplingError(JaxhlmError, ValueError):
    """A fit cannot be bootstrapped in this way."""


class ComparisonError(JaxhlmError, ValueError):
    """Two fits cannot be tested against each other."""


class TargetError(JaxhlmError, ValueError):
    """A wanted power is not reached within the bounds."""


class FileError(JaxhlmError, OSError):
    """A file cannot be read or written, is damaged, or was written by something else."""


class FolderError(JaxhlmError, ValueError):
    """A folder holds another run, or something else, and is left as it is."""


class StudyFolderError(FolderError):
    """A folder holds another study, or something else, and is left as it is."""


class StudyFileError(JaxhlmError, ValueError):
    """A study's TOML file cannot be read; the message names file, line and key."""


class ForkedProcessError(JaxhlmError, RuntimeError):
    """JAX is needed in a process that was forked from one that had used it."""


class DeviceError(JaxhlmError, RuntimeError):
    """A device was lost, or cannot do what it was given; what was finished is kept."""


class ExecutorError(JaxhlmError, RuntimeError):
    """An executor is shut down or has lost workers, or these cannot do what is asked of them."""


class TaskError(JaxhlmError, RuntimeError):
    """Code of the user's failed on some data sets; the message names them and what it raised."""


class JaxhlmWarning(UserWarning):
    """Base of every warning that jaxhlm gives."""


class RowsDroppedWarning(JaxhlmWarning):
    """Rows with missing values were left out."""


class FileWarning(JaxhlmWarning):
    """A file was read and looks damaged, or was damaged and is made anew."""


class NumbersAsTextWarning(JaxhlmWarning):
    """A column of text that enters as a factor holds nothing but numbers."""


class AmbiguousDropoutWarning(JaxhlmWarning):
    """Drop-out was given as a number that does not say of what it is the share."""


class OneDrawWarning(JaxhlmWarning):
    """The power is that of one draw of a design, not of what may be drawn."""


class RankDeficientWarning(JaxhlmWarning):
    """Columns of the fixed-effects matrix were dropped: earlier columns determine them."""


class NotEstimableWarning(JaxhlmWarning):
    """Values that a rank-deficient model does not determine were left NaN."""


class SingularFitWarning(JaxhlmWarning):
    """The estimate lies on the boundary: some random-effect variance is zero."""


class DegenerateWarning(JaxhlmWarning):
    """Statistics are NaN, or far too small, that the design leaves next to nothing for."""


class InterruptedFitsWarning(JaxhlmWarning):
    """The work was interrupted and only part of the fits is returned."""


class ScatteredRowsWarning(JaxhlmWarning):
    """A table that is larger than memory is read many times, its data sets lying all over it."""


class DeviceMemoryWarning(JaxhlmWarning):
    """A device is out of memory for a chunk, and goes on with smaller ones."""


class ConvergenceWarning(JaxhlmWarning):
    """The optimiser stopped before its termination rule was met."""


# Context variables, not filters: filters are the process's, and threads share them.
_MUTED: ContextVar[tuple[type[JaxhlmWarning], ...]] = ContextVar("muted", default=())
Say: TypeAlias = Callable[[str, type[JaxhlmWarning]], None]
_SAY: ContextVar[Say | None] = ContextVar("say", default=None)


def muted(*categories: type[JaxhlmWarning]) -> AbstractContextManager[None]:
    """Leave out our own warnings of these classes, in this thread and context only."""
    return within(_MUTED, (*_MUTED.get(), *categories))


def failures_counted() -> AbstractContextManager[None]:
    """Leave out what a chunk of fits would warn of, where the whole is counted in the result."""
    return muted(ConvergenceWarning, RankDeficientWarning)


def said_by(say: Say) -> AbstractContextManager[None]:
    """Give our own warnings to ``say``, each text once, in this thread and context only."""
    heard: set[str] = set()

    def once(message: str, category: type[JaxhlmWarning]) -> None:
        if message not in heard:
            heard.add(message)
            say(message, category)

    return within(_SAY, once)


_OURS = ("jaxhlm", "numpy", "contextlib")


def warn_user(message: str, category: type[JaxhlmWarning]) -> None:
    """Warn at the line outside the package that called into it, however deep the cause lies.

    Args:
        message: what happened.
        category: the class of the cause.
    """
    if issubclass(category, _MUTED.get()):
        return
    if (say := _SAY.get()) is not None:
        return say(message, category)
    level, frame = 1, sys._getframe()
    # A decorator of NumPy's (``errstate``) has a frame of its own between two of ours.
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
