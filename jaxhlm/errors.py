"""What jaxhlm raises and what it warns of: one class per cause, so that one cause can be filtered.

Every exception is a `JaxhlmError` and also the builtin a reader would expect:

>>> issubclass(MissingColumnError, KeyError)
True
>>> str(MissingColumnError("no column 'x'"))
"no column 'x'"
"""

__all__ = [
    "ConstantResponseError",
    "ConvergenceWarning",
    "FormulaError",
    "GroupingError",
    "IdentifiabilityError",
    "InterruptedFitsWarning",
    "JaxhlmError",
    "JaxhlmWarning",
    "MissingColumnError",
    "NewLevelError",
    "NoRowsError",
    "NonFiniteError",
    "NotNumericError",
    "OptionError",
    "RankDeficientWarning",
    "ResponseShapeError",
    "RowsDroppedWarning",
    "SingularFitWarning",
    "UnsupportedTermError",
    "WeightsError",
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
    """A column holds an infinite value, or a transform in the formula made one or a NaN."""


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


class OptionError(JaxhlmError, ValueError):
    """An option has a value outside those allowed."""


class ResamplingError(JaxhlmError, ValueError):
    """A fit cannot be bootstrapped in this way."""


class ComparisonError(JaxhlmError, ValueError):
    """Two fits cannot be tested against each other."""


class JaxhlmWarning(UserWarning):
    """Base of every warning that jaxhlm gives."""


class RowsDroppedWarning(JaxhlmWarning):
    """Rows with missing values were left out."""


class RankDeficientWarning(JaxhlmWarning):
    """Columns of the fixed-effects matrix were dropped: earlier columns determine them."""


class SingularFitWarning(JaxhlmWarning):
    """The estimate lies on the boundary: some random-effect variance is zero."""


class InterruptedFitsWarning(JaxhlmWarning):
    """The work was interrupted and only part of the fits is returned."""


class ConvergenceWarning(JaxhlmWarning):
    """The optimiser stopped before its termination rule was met."""
