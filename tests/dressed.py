"""Frames whose columns have any dtype, and what the plain frame of the same values gives.

A drawn frame is *dressed*: its columns, index and column labels are those of one of the many forms
that pandas and Arrow have for the same values. Every function must read it as the plain frame of
float64 and text with these values, or refuse it by an error of ours that names a column.
"""

import datetime
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

import jaxhlm as hlm
import tolerances as tol

TYPES = [type(f"T{i}", (), {}) for i in range(121)]
DAY = datetime.date(2020, 1, 1)
# Values are whole numbers from 0 to 120, so that every dtype holds them.
NUMPY = [
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i4", "<u2"),
    *("float16", "float32", "float64", "longdouble", ">f8"),
]
NULLABLE = [
    *("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"),
    *("Float32", "Float64"),
]
ARROW = {
    **{f"arrow {t.__name__}": t() for t in (pa.int8, pa.int16, pa.int32, pa.int64)},
    **{f"arrow {t.__name__}": t() for t in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)},
    **{f"arrow {t.__name__}": t() for t in (pa.float32, pa.float64)},
    "arrow decimal128": pa.decimal128(12, 3),
    "arrow decimal256": pa.decimal256(50, 2),
}


def arrow(values: list[Any], of: pa.DataType) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values, of)))


def mapped(make: Callable[[float], Any], dtype: Any = object) -> Callable[[Any], pd.Series]:
    """Values one by one, missing ones None."""
    return lambda v: pd.Series([None if np.isnan(x) else make(x) for x in v], dtype=dtype)


def mapped_arrow(make: Callable[[float], Any], of: pa.DataType) -> Callable[[Any], pd.Series]:
    return lambda v: arrow([None if np.isnan(x) else make(x) for x in v], of)


def nested(v: Any) -> pd.Series:
    return pd.Series([None if np.isnan(x) else [x] for x in v], dtype=object)


def either(v: Any, *makes: Callable[[float], Any]) -> pd.Series:
    """Objects of several types in turn."""
    given = [None if np.isnan(x) else makes[i % len(makes)](x) for i, x in enumerate(v)]
    return pd.Series(given, dtype=object)


def any_missing(v: Any) -> pd.Series:
    """Floats among which every sign of a missing value is found."""
    signs = [None, np.nan, pd.NA, pd.NaT, Decimal("NaN")]
    given = [signs[i % 5] if np.isnan(x) else float(x) for i, x in enumerate(v)]
    return pd.Series(given, dtype=object)


def inner_nan(v: Any) -> pd.Series:
    """A nullable column whose missing values are NaN, not NA."""
    return pd.Series(pd.arrays.FloatingArray(np.array(v), np.zeros(len(v), bool)))


def a_time(x: float) -> datetime.time:
    return datetime.time(int(x) // 60, int(x) % 60)


def a_timestamp(x: float) -> pd.Timestamp:
    return pd.Timestamp(DAY) + pd.Timedelta(x, "D")


def texts(v: Any) -> list[str | None]:
    return [None if np.isnan(x) else f"v{int(x):03d}" for x in v]


def categories(v: Any) -> list[float]:
    return sorted({x for x in v if not np.isnan(x)})


NUMBERS = {
    **{name: (lambda v, d=name: pd.Series(v).astype(d)) for name in NUMPY},
    **{name: (lambda v, d=name: pd.Series(v).astype(d)) for name in NULLABLE},
    **{
        name: (
            mapped_arrow(Decimal, of)
            if "decimal" in name
            else mapped_arrow(int if "int" in name else float, of)
        )
        for name, of in ARROW.items()
    },
    "arrow halffloat": mapped_arrow(np.float16, pa.float16()),
    "arrow inner nan": lambda v: arrow(list(v), pa.float64()),
    "nullable inner nan": inner_nan,
    "objects int": mapped(int),
    "objects float": mapped(float),
    "objects Decimal": mapped(lambda x: Decimal(int(x))),
    "objects Fraction": mapped(lambda x: Fraction(int(x))),
    "objects float32": mapped(np.float32),
    "objects any number": lambda v: either(v, int, float, np.float32, Decimal, np.int8, Fraction),
    "objects any missing": any_missing,
    "sparse": lambda v: pd.Series(pd.arrays.SparseArray(v)),
    "sparse zeros": lambda v: pd.Series(pd.arrays.SparseArray(v, fill_value=0.0)),
}
TEXTS = {
    "objects text": lambda v: pd.Series(texts(v), dtype=object),
    "str": lambda v: pd.Series(texts(v), dtype="str"),
    "string python": lambda v: pd.Series(texts(v), dtype=pd.StringDtype("python")),
    "string pyarrow": lambda v: pd.Series(texts(v), dtype=pd.StringDtype("pyarrow")),
    "arrow string": lambda v: arrow(texts(v), pa.string()),
    "arrow large_string": lambda v: arrow(texts(v), pa.large_string()),
    "arrow dictionary": lambda v: pd.Series(
        pd.arrays.ArrowExtensionArray(pa.array(texts(v), pa.string()).dictionary_encode())
    ),
    "category text": lambda v: pd.Series(texts(v), dtype="category"),
    "category arrow": lambda v: pd.Series(texts(v), dtype=pd.ArrowDtype(pa.string())).astype(
        "category"
    ),
    "objects np.str_": mapped(lambda x: np.str_(f"v{int(x):03d}")),
}
CATEGORIES = {
    "category float": lambda v: pd.Series(v).astype("category"),
    "category int": lambda v: pd.Series(v).astype("Int64").astype("category"),
    "category unused": lambda v: pd.Series(pd.Categorical(v, [*categories(v), 900.0])),
    "category ordered": lambda v: pd.Series(pd.Categorical(v, categories(v), ordered=True)),
    "category dates": lambda v: pd.Series(pd.to_datetime(v, unit="D")).astype("category"),
    "category intervals": lambda v: pd.Series(
        pd.arrays.IntervalArray.from_arrays(v, v + 1.0)
    ).astype("category"),
}
OTHERS = {
    "datetime": lambda v: pd.Series(pd.to_datetime(v, unit="D")),
    "datetime s": lambda v: pd.Series(pd.to_datetime(v, unit="D")).astype("datetime64[s]"),
    "datetime tz": lambda v: pd.Series(pd.to_datetime(v, unit="D", utc=True)),
    "timedelta": lambda v: pd.Series(pd.to_timedelta(v, unit="D")),
    "period": lambda v: pd.Series(pd.PeriodIndex(pd.to_datetime(v, unit="D"), freq="D")),
    "interval": lambda v: pd.Series(pd.arrays.IntervalArray.from_arrays(v, v + 1.0)),
    "complex": lambda v: pd.Series(v + 0j),
    "objects complex": mapped(complex),
    "objects date": mapped(lambda x: DAY + datetime.timedelta(x)),
    "objects time": mapped(a_time),
    "objects timestamp": mapped(a_timestamp),
    "objects bytes": mapped(lambda x: b"%03d" % int(x)),
    "objects list": nested,
    "objects tuple": mapped(lambda x: (x,)),
    "objects dict": mapped(lambda x: {"x": x}),
    "objects set": mapped(lambda x: {x}),
    "objects array": mapped(lambda x: np.array([x, x])),
    "objects 0-d": mapped(np.array),
    "objects series": mapped(lambda x: pd.Series([x])),
    "objects class": mapped(lambda x: TYPES[int(x)]),
    "objects text or int": lambda v: either(v, int, lambda x: str(int(x))),
    "objects bool or int": lambda v: either(v, int, lambda x: x % 2 > 0),
    "arrow date32": mapped_arrow(lambda x: DAY + datetime.timedelta(x), pa.date32()),
    "arrow time64": mapped_arrow(a_time, pa.time64("us")),
    "arrow timestamp": mapped_arrow(a_timestamp, pa.timestamp("us", "UTC")),
    "arrow duration": mapped_arrow(datetime.timedelta, pa.duration("us")),
    "arrow list": mapped_arrow(lambda x: [x], pa.list_(pa.float64())),
    "arrow struct": mapped_arrow(lambda x: {"x": x}, pa.struct([("x", pa.float64())])),
    "arrow binary": mapped_arrow(lambda x: b"%03d" % int(x), pa.binary()),
    "arrow dictionary int": lambda v: pd.Series(
        pd.arrays.ArrowExtensionArray(
            pa.array([None if np.isnan(x) else int(x) for x in v]).dictionary_encode()
        )
    ),
}  # fmt: skip
MISSING = {
    "arrow null": lambda v: arrow([None] * len(v), pa.null()),
    "all missing": lambda v: pd.Series(np.full(len(v), np.nan)),
    "all None": lambda v: pd.Series([None] * len(v), dtype=object),
    "all NA": lambda v: pd.Series([pd.NA] * len(v), dtype="Int64"),
}
TRUTHS = {
    "bool": lambda v: pd.Series(v % 2 > 0).astype(object).where(~np.isnan(v)).infer_objects(),
    "boolean": lambda v: pd.Series(v % 2 > 0).astype("boolean").where(~np.isnan(v)),
    "arrow bool": mapped_arrow(lambda x: x % 2 > 0, pa.bool_()),
    "objects np.bool": mapped(lambda x: np.bool_(x % 2 > 0)),
    "category bool": lambda v: pd.Series(v % 2 > 0).where(~np.isnan(v)).astype("category"),
}
KINDS = {
    "number": NUMBERS,
    "text": TEXTS,
    "category": CATEGORIES,
    "truth": TRUTHS,
    "missing": MISSING,
    "other": OTHERS,
}

COVARIATES, LABELS = ("x", "f", "y", "w"), ("unit", "rep")
NAMES = ["x", "dose [mg]", "a.b", "µ", "class", "x y", "I(x)", "1", 2020, 1.5, True, ("a", 1)]
INDEXES = {
    "range": lambda n: pd.RangeIndex(n),
    "shuffled": lambda n: pd.Index(np.random.default_rng(0).permutation(n)),
    "repeated": lambda n: pd.Index([7] * n),
    "dates": lambda n: pd.date_range("2020", periods=n, tz="UTC"),
    "texts": lambda n: pd.Index([f"r{i}" for i in range(n)]),
    "floats": lambda n: pd.Index([np.nan, *np.arange(n - 1.0)][:n]),
    "levels": lambda n: pd.MultiIndex.from_arrays([[1] * n, range(n)]),
    "categories": lambda n: pd.CategoricalIndex(["a"] * n),
    "intervals": lambda n: pd.interval_range(0, periods=n),
    "arrow": lambda n: pd.Index(range(n), dtype="int64[pyarrow]"),
}
FORMULAS = [
    "y ~ {x} + f + (1 | {unit})",
    "np.log(y + 1) ~ C({x}) + f + (1 | {unit})",
    "y ~ center({x}) * f + (1 | {unit})",
    "y ~ {x} + (1 + f | {unit})",
]


def plain(role: str, kind: str, values: Any) -> pd.Series | None:
    """The column in float64 or text, or None where the values have no such reading."""
    if role in LABELS:
        return pd.Series(values % 2 if kind == "truth" else values)
    if kind in ("number", "missing"):
        return pd.Series(values)
    if kind == "truth":
        return pd.Series([None if np.isnan(x) else x % 2 > 0 for x in values], dtype=object)
    return pd.Series(texts(values), dtype=object) if kind in ("text", "category") else None


@dataclass(frozen=True)
class Frame:
    """A drawn frame.

    Attributes:
        values: (n,) whole numbers by role: x, f, y, w, unit, rep.
        forms: (kind, name) by role; a role without one is plain.
        names: labels of the columns of some roles.
        index: a key of INDEXES.
        extra: whether there are columns of no use, some of one name.
    """

    values: dict[str, Any] = field(repr=False)
    forms: dict[str, tuple[str, str]]
    names: dict[str, Any] = field(default_factory=dict)
    index: str = "range"
    extra: bool = False

    def plain(self) -> pd.DataFrame | None:
        """The frame of float64 and text, or None where a column has no such reading."""
        columns = {role: plain(role, self.kind(role), v) for role, v in self.values.items()}
        return None if any(c is None for c in columns.values()) else pd.DataFrame(columns)

    def kind(self, role: str) -> str:
        return self.forms.get(role, ("number",))[0]

    def dressed(self) -> pd.DataFrame:
        columns = [self.column(role) for role in self.values]
        labels = [self.names.get(role, role) for role in self.values]
        if self.extra:
            columns += [nested(self.values["x"]), columns[0], columns[1]]
            labels += ["extra", "extra", 3]
        made = pd.concat(columns, axis=1)
        made.columns = pd.Index(labels, tupleize_cols=False)
        return made.set_axis(INDEXES[self.index](len(made)), axis=0)

    def column(self, role: str) -> pd.Series:
        kind, name = self.forms.get(role, ("number", "float64"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return KINDS[kind][name](self.values[role])

    def formula(self, form: str) -> str:
        quoted = {r: f"`{self.names[r]}`" if r in self.names else r for r in ("x", "unit")}
        return form.format(**quoted)


@st.composite
def frames(draw: Any, roles: tuple[str, ...] = (*COVARIATES, *LABELS), most: int = 3) -> Frame:
    """Frames of 48 rows in 8 units and 2 replicates, or of none or one."""
    rng = np.random.default_rng(draw(st.integers(0, 20)))
    rows = draw(st.sampled_from([48, 48, 48, 48, 48, 48, 48, 48, 1, 0]))
    unit = np.repeat(np.arange(8.0), 6)
    values = {
        "x": rng.integers(0, 4, 48).astype(float),
        "f": rng.integers(0, 3, 48).astype(float),
        "unit": unit,
        "w": rng.integers(1, 4, 48).astype(float),
        "rep": unit // 4,
    }
    effect = 10 * rng.normal(size=8)[unit.astype(int)]
    y = 50 + 5 * values["x"] + 4 * values["f"] + effect + 8 * rng.normal(size=48)
    values["y"] = np.clip(np.round(y), 0, 120)
    values = {role: v[:rows].copy() for role, v in values.items()}
    dressed = draw(st.lists(st.sampled_from(roles), min_size=1, max_size=most, unique=True))
    forms = {}
    for role in dressed:
        kind = draw(st.sampled_from([*KINDS, "number", "number"]))
        forms[role] = (kind, draw(st.sampled_from(list(KINDS[kind]))))
        if draw(st.integers(0, 3)) == 0 and role != "rep":
            values[role][rng.random(rows) < 0.06] = np.nan
    names = {}
    if draw(st.booleans()):
        names["x"] = draw(st.sampled_from(NAMES))
    if draw(st.booleans()):
        taken = names.get("x", "x")
        names["unit"] = draw(st.sampled_from([n for n in NAMES if n != taken]))
    index = draw(st.sampled_from(list(INDEXES)))
    values = {role: representable(v, forms.get(role)) for role, v in values.items()}
    return Frame(values, forms, names, index, draw(st.booleans()))


def representable(values: Any, form: tuple[str, str] | None) -> Any:
    """The values that a form can hold: whole numbers have no NaN, and missing is missing."""
    kind, name = form or ("number", "float64")
    if kind == "number" and name in NUMPY and "f" not in name and name != "longdouble":
        return np.nan_to_num(values, nan=1.0)
    return values * np.nan if kind == "missing" else values


def facts(fit: Any) -> list[Any]:
    """What must agree, apart from the names of terms."""
    batch = hasattr(fit, "counts")
    found = [fit.criterion, fit.sigma, fit.fixef, fit.se, fit.nobs, fit.ngroups, fit.status]
    found = [np.asarray(x, dtype=float) for x in found]
    return found if batch else [*found, fit.ranef.to_numpy(), fit.fitted.to_numpy()]


def by_itself(frame: Frame, data: pd.DataFrame, formula: str) -> list[Any]:
    weights = "w" if "w" in frame.forms else None
    return facts(hlm.fit(formula, data, weights=weights))


def by_replicate(frame: Frame, data: pd.DataFrame, formula: str) -> list[Any]:
    weights = "w" if "w" in frame.forms else None
    return facts(hlm.fit_many(formula, data, by="rep", weights=weights))


def by_response(frame: Frame, data: pd.DataFrame, formula: str) -> list[Any]:
    Y = data[["y", "w"]]
    return facts(hlm.fit_many(formula, data, Y))


def by_design(frame: Frame, data: pd.DataFrame, formula: str) -> list[Any]:
    made = hlm.design(formula, data, "w" if "w" in frame.forms else None)
    weights = np.ones(made.n) if made.weights is None else made.weights
    return [made.X, made.Z, made.group, made.kept, weights]


def by_unit(frame: Frame, data: pd.DataFrame, formula: str) -> list[Any]:
    return [hlm.lm_list(formula, data).coef.to_numpy()]


DOORS = {
    "fit": by_itself,
    "by": by_replicate,
    "responses": by_response,
    "design": by_design,
    "lm_list": by_unit,
}


def answer(call: Callable[[], list[Any]]) -> tuple[list[Any] | None, str]:
    """Numbers, or None and our error's message; a foreign error or warning is raised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found, said = call(), ""
        except hlm.JaxhlmError as error:
            found, said = None, f"{type(error).__name__}: {error}"
    foreign = [w for w in caught if not issubclass(w.category, hlm.JaxhlmWarning)]
    assert not foreign, foreign[0]
    return found, said


def used(door: str, formula: str) -> set[str]:
    roles = {"x", "f", "unit"} if "f" in formula else {"x", "unit"}
    return roles | {"fit": {"y", "w"}, "by": {"y", "w", "rep"}, "responses": {"y", "w"},
                    "design": {"w"}, "lm_list": {"y"}}[door]  # fmt: skip


def check(frame: Frame, door: str, form: str) -> str:
    """Compare a door's answer with that to the plain frame; what came of it."""
    data, formula = frame.dressed(), frame.formula(form)
    found, said = answer(lambda: DOORS[door](frame, data, formula))
    pd.testing.assert_frame_equal(data, frame.dressed())
    ours = used(door, form) & set(frame.forms)
    reading = Frame(frame.values, {r: frame.forms[r] for r in ours})
    if (simple := reading.plain()) is None:
        assert found is None, "read, though it is neither number nor text"
        return said.partition(":")[0]
    expected, why = answer(lambda: DOORS[door](reading, simple, form.format(x="x", unit="unit")))
    if found is None:
        names = [str(frame.names.get(role, role)) for role in ours] + ["weights", "factor"]
        assert expected is None or any(name in said for name in names), said
        return said.partition(":")[0]
    assert expected is not None, f"read, though the plain frame is refused: {why}"
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
    return "equal"


def check_prediction(frame: Frame, forms: dict[str, tuple[str, str]], form: str) -> str:
    """Predictions of a frame from a fit to the same values in other forms."""
    formula = frame.formula(form)
    values = {role: representable(v, forms.get(role)) for role, v in frame.values.items()}
    new = replace(frame, values=values, forms=forms)
    fit, said = answer(lambda: [hlm.fit(formula, frame.dressed())])
    if fit is None:
        return f"no fit: {said.partition(':')[0]}"
    found, said = answer(lambda: [fit[0].predict(new.dressed()).to_numpy()])
    if found is None:
        return said.partition(":")[0]
    values = {role: as_read(frame.kind(role), new.kind(role), v) for role, v in values.items()}
    simple = Frame(frame.values, frame.forms).plain(), Frame(values, frame.forms).plain()
    plainly = form.format(x="x", unit="unit")
    (expected,), _ = answer(lambda: [hlm.fit(plainly, simple[0]).predict(simple[1]).to_numpy()])
    np.testing.assert_allclose(*found, expected, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
    return "equal"


def as_read(fitted: str, new: str, values: Any) -> Any:
    """The values, as 0 and 1 where truth values stand for numbers."""
    return values % 2 if (fitted, new) == ("number", "truth") else values
