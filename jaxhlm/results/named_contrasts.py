"""Named contrasts of very many fits: one table of tests, adjusted for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag, whole_number
from jaxhlm.core.notation import Floats, check_option
from jaxhlm.core.status import status_names
from jaxhlm.core.tables import Shown
from jaxhlm.errors import ContrastError, OptionError
from jaxhlm.estimation.hypotheses import Contrasts, Hypothesis
from jaxhlm.estimation.model import Model
from jaxhlm.inference.contrast_tests import DfMethod, check_df
from jaxhlm.inference.multiplicity import Adjustment, adjusted
from jaxhlm.inference.tails import f_tail, normal_size
from jaxhlm.results import coefficients
from jaxhlm.results.moderated import Moderation, moderated, moderation
from jaxhlm.results.presenters import ManyFits
from jaxhlm.results.record import FitRecord
from jaxhlm.results.tidy import inference_table

__all__ = ["Moderate", "Shape", "contrast_table", "named_hypothesis", "requested_tests", "top"]

Moderate = bool | Literal["dream"]
Shape = Literal["long", "wide"]

LEVEL = 0.95


@np.errstate(all="ignore")
def contrast_table(
    fits: FitRecord,
    contrasts: Mapping[str, Any] | Contrasts | None,
    df: DfMethod,
    moderate: Moderate,
    trend: bool,
    robust: bool,
    adjust: Adjustment,
    joint: bool,
    shape: Shape,
) -> pd.DataFrame:
    """Tests of named contrasts of every fit; arguments as for ``FitBatch.test``."""
    check_flag("joint", joint)
    check_option("shape", shape, Shape)
    hypothesis = requested_tests(fits.model, contrasts, df, moderate, trend, robust, adjust)
    prior = moderation(fits, trend, robust) if moderate else None
    labels = []
    if prior is not None and moderate != "dream":
        fits = moderated(fits, prior)
    if joint:
        found = coefficients.joint_test(fits, hypothesis.L, df, hypothesis.rhs)
        columns = {name: np.reshape(value, (-1, 1)) for name, value in found.items()}
        labels = [", ".join(map(_with_null, hypothesis.labels, hypothesis.rhs))]
    else:
        columns, _ = coefficients.contrasts(fits, hypothesis.L, df, hypothesis.rhs, LEVEL)
        labels = [*hypothesis.labels]
    if prior is not None and moderate == "dream":
        columns |= _rescaled(columns, hypothesis.rhs, prior)
    columns["p_adjusted"] = adjusted(columns["p_value"], adjust)
    if not joint and hypothesis.rhs.any():
        columns = {"estimate": columns["estimate"], "null": hypothesis.rhs} | columns
    if not joint:
        columns["z"] = np.sign(columns["statistic"]) * normal_size(columns["p_value"])
    return _shown(fits, labels, columns, shape)


def requested_tests(
    model: Model,
    contrasts: Mapping[str, Any] | Contrasts | None,
    df: DfMethod,
    moderate: Moderate,
    trend: bool,
    robust: bool,
    adjust: Adjustment,
) -> Hypothesis:
    """What is to be tested; arguments as for ``FitBatch.test``, refused without looking at fits.

    Raises:
        OptionError: an option of another kind, or some that do not go together.
        NeedsRemlError: a method that is for REML fits only.
        ContrastError, UnknownTermError, NotEstimableError: as for ``FitBatch.test``.
    """
    check_option("adjust", adjust, Adjustment)
    check_df(df, model.reml)
    check_flag("trend", trend)
    check_flag("robust", robust)
    if not isinstance(moderate, bool | np.bool_) and moderate != "dream":
        raise OptionError(f"moderate={moderate!r} is not known; use one of False, True, 'dream'")
    for name, asked in (("trend", trend), ("robust", robust)):
        if asked and not moderate:
            what = "is about moderated variances: give moderate=True as well"
            raise OptionError(f"{name}=True {what}")
    if moderate and df == "residual":
        raise OptionError('df="residual" does not count a prior: use df="satterthwaite"')
    return named_hypothesis(model, contrasts)


def top(table: pd.DataFrame, n: int, by: str | None) -> pd.DataFrame:
    """The n rows of a long table of tests with the smallest p values, or those of one contrast.

    Raises:
        OptionError: ``by`` is no contrast of the table.
    """
    n = whole_number("n", n)
    if by is not None:
        if by not in set(table["contrast"]):
            known = ", ".join(map(repr, dict.fromkeys(table["contrast"])))
            raise OptionError(f"by={by!r} is no contrast that is tested; these are: {known}")
        table = table[table["contrast"] == by]
    # Where p values are zero to the last digit the statistic tells.
    ranked = table.assign(size=-table["statistic"].abs())
    order = ranked.sort_values(["p_value", "size"], kind="stable").index
    return Shown(table.loc[order[:n]].reset_index(drop=True))


def named_hypothesis(model: Model, contrasts: Mapping[str, Any] | Contrasts | None) -> Hypothesis:
    """Contrasts under their names; every fixed effect but the intercept by default."""
    if contrasts is None:
        contrasts = {name: {name: 1.0} for name in model.xnames if name != "(Intercept)"}
        if not contrasts:
            raise ContrastError("there is no fixed effect besides the intercept: give contrasts=")
    if isinstance(contrasts, pd.Series) and any(isinstance(row, str) for row in contrasts):
        contrasts = contrasts.to_dict()
    if not isinstance(contrasts, Mapping):
        return model.hypothesis(contrasts, 0.0)
    if not contrasts:
        raise ContrastError("there is no contrast to test: give contrasts={'name': 'x = 0'}")
    parts = [_one_row(model, str(name), row) for name, row in contrasts.items()]
    L, rhs = (np.concatenate(part) for part in zip(*((h.L, h.rhs) for h in parts), strict=True))
    return Hypothesis(tuple(map(str, contrasts)), L, rhs)


def _one_row(model: Model, name: str, row: Any) -> Hypothesis:
    if isinstance(row, int | float):
        raise ContrastError(
            f"contrasts={{{name!r}: {row!r}}}: this maps names to contrasts; give the contrast of "
            f"terms a name, as in {{'name': {{{name!r}: {row!r}}}}}"
        )
    found = model.hypothesis(row, 0.0)
    if len(found.labels) > 1:
        raise ContrastError(
            f"contrast {name!r} has {len(found.labels)} rows: give each a name of its own; "
            "joint=True then tests all of them at once"
        )
    return found


def _with_null(label: str, null: float) -> str:
    """A name, with what it is tested against unless that is zero or said in it."""
    said = f"= {null:g}"
    return label if null == 0.0 or label.endswith(said) else f"{label} {said}"


def _rescaled(columns: Mapping[str, Floats], rhs: Floats, prior: Moderation) -> dict[str, Floats]:
    """Columns (B, r) of t tests, or of F tests, as ``dream`` moderates them.

    Standard errors are in proportion to σ̂, and d₀ is added to their degrees of freedom, up to those
    of all fits together.
    """
    v = prior.variances
    ratio = np.sqrt(v["moderated"] / v["variance"]).to_numpy()[:, None]
    d0, most = v["df_prior"].to_numpy()[:, None], prior.df_pooled
    if "num_df" in columns:
        F, df = columns["statistic"] / ratio**2, np.minimum(columns["den_df"] + d0, most)
        return {"den_df": df, "statistic": F, "p_value": f_tail(F, int(columns["num_df"][0]), df)}
    se, df = columns["std_error"] * ratio, np.minimum(columns["df"] + d0, most)
    return inference_table(columns["estimate"], se, df, rhs, LEVEL)


def _shown(
    fits: FitRecord, labels: Sequence[str], columns: Mapping[str, Floats], shape: Shape
) -> pd.DataFrame:
    """A row for every fit and contrast, or a row for every fit, each with the fit's status."""
    status = status_names(fits.estimates.status)
    B, r = len(fits), len(labels)
    columns = {name: np.broadcast_to(values, (B, r)) for name, values in columns.items()}
    if shape == "wide":
        wide = {
            (label, name): values[:, j] for j, label in enumerate(labels)
            for name, values in columns.items()
        }  # fmt: skip
        frame = pd.DataFrame(wide, index=fits.index)
        frame["status", ""] = status
        return frame
    long = {"contrast": np.tile(np.array(labels, dtype=object), B)}
    long |= {name: values.ravel() for name, values in columns.items()}
    return ManyFits(fits).long(pd.DataFrame(long | {"status": np.repeat(status, r)}))
