"""Whatever is asked of fits that failed: a result without numbers, or an error of ours."""

import inspect
from functools import cache

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from jaxhlm.errors import JaxhlmError

pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.JaxhlmWarning")


@cache
def fits(x):
    """Data sets by name, of which the first and the last but two can be fitted."""
    rng = np.random.default_rng(0)
    d = pd.DataFrame({"u": np.repeat(np.arange(12), 6), "k": np.tile(list("abc"), 24)})
    d["x"] = rng.normal(size=72)
    d["y"] = rng.normal(size=12)[d["u"]] + rng.normal(size=72)
    kinds = {
        "all rows": d,
        "three rows": d.head(3),
        "one row": d.head(1),
        "one unit": d[d["u"] == 1],
        "a row each": d[::6],
        "two levels": d[d["k"] != "c"],
        "constant": d.assign(y=1.0),
        "missing": d.assign(y=np.nan),
        "huge": d.assign(y=1e305 * d["y"]),
        "exact": d.assign(y=d["x"]),
    }
    parts = [part.assign(kind=kind) for kind, part in kinds.items()]
    return d, hlm.fit_many(f"y ~ {x} * k + (1 | u)", pd.concat(parts), by="kind", progress=False)


def asked(of, d):
    """All that takes no argument, and what people ask for beside it."""
    for name in dir(of):
        if name.startswith("_") or not callable(found := getattr(of, name)):
            continue
        needed = inspect.signature(found).parameters.values()
        if all(p.default is not p.empty or p.kind > p.POSITIONAL_OR_KEYWORD for p in needed):
            yield name, found
    for kind in ("I", "II", "III"):
        yield f"anova {kind}", lambda kind=kind: of.anova(type=kind)
    for df in ("satterthwaite", "kenward-roger"):
        yield f"tidy {df}", lambda df=df: of.tidy(df=df)
    yield "profiles", lambda: of.confint("profile")
    yield "means", lambda: of.emmeans("k")
    yield "pairs", lambda: of.emmeans("k", contrasts="pairwise", adjust="mvt")
    yield "predictions", lambda: of.predict(d.head(3), interval="prediction")
    yield "text", lambda: (str(of), of._repr_html_())


@pytest.mark.parametrize("x", ["x", "scale(x)"])
def test_nothing_else_is_raised_by_fits_that_failed(x):
    d, batch = fits(x)
    assert 0 < batch.ok.sum() < len(batch) - 4
    for of in (batch, *batch):
        for name, call in asked(of, d):
            try:
                call()
            except JaxhlmError:
                continue
            except Exception as error:
                raise AssertionError(f"{name} of {of.status}") from error
