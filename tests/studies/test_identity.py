"""A mechanism is told from another by what defines it, wherever and whenever it is made."""

import json
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

import jaxhlm as hlm
from jaxhlm import violations as v
from jaxhlm.errors import OptionError, StudyFolderError
from jaxhlm.studies.identity import identity
from studies_made import DATA, METHODS

RARE = """
class Rare:
    def __init__(self, size):
        self.size = size
    def draw(self, rng, shape):
        z = rng.normal(size=shape)
        return np.where(rng.random(shape) < 0.0001, self.size * z, z)
"""
FUNCTION = """
GLOBAL = 7.0
def made(closed):
    def law(rng, size, default=3.0):
        def inner(z):
            return z + (size < 0) * 11.0
        if size < 0:
            return default + closed + GLOBAL + 5.0
        return inner(rng.normal(size=size))
    return law
"""


@dataclass(frozen=True)
class Noted:
    """A record, part of which is a remark."""

    size: float
    note: str = field(default="", compare=False)

    def draw(self, rng, size):
        return rng.normal(size=size) * self.size


class Drawing:
    def __init__(self, function):
        self.function = function

    def draw(self, rng, size):
        return self.function(rng, size)


def executed(code):
    names = {"np": np, "__name__": "__main__"}
    exec(code, names)
    return names


def of(design=DATA, beta=(1, 3), sigma=0.75, violations=()):
    truth = hlm.Truth.of(list(beta), sd=[0.2, 0.5], corr=0.9, sigma=sigma)
    return hlm.mechanism("y ~ x + (1 + x | unit)", design, truth, violations)


def units(**changed):
    own = {
        "n": 8, "within": {"x": [0, 1, 2, 3]}, "dropout": {"overall": 0.2}, "redraw": True,
        "seed": 0, **changed,
    }  # fmt: skip
    return of(hlm.units(**own))


def rare(size):
    return of(violations=[v.ResidualsFrom(executed(RARE)["Rare"](size))])


def drawing(old="", new="", closed=2.0):
    law = executed(FUNCTION.replace(old, new) if old else FUNCTION)["made"](closed)
    return of(violations=[v.ResidualsFrom(Drawing(law))])


def cell():
    other = DATA.copy()
    other.loc[3, "x"] += 1e-6
    return of(other)


CHANGES = {
    "dropout": (units, lambda: units(dropout={"overall": 0.2001})),
    "dropout by visit": (
        lambda: units(dropout={"per_visit": 0.2}), lambda: units(dropout={"per_visit": 0.2001}),
    ),
    "kind of dropout": (units, lambda: units(dropout={"per_visit": 0.2})),
    "measurements": (
        lambda: units(dropout=None, measurements=stats.binom(4, 0.99)),
        lambda: units(dropout=None, measurements=stats.binom(4, 0.98)),
    ),
    "within": (units, lambda: units(within={"x": [0, 1, 2, 4]})),
    "between": (
        lambda: units(between={"a": stats.t(4)}), lambda: units(between={"a": stats.t(4.001)}),
    ),
    "factors": (
        lambda: units(factors={"f": ["p", "q"]}), lambda: units(factors={"f": ["p", "r"]}),
    ),
    "crossed": (
        lambda: units(crossed={"f": ["p", "q"]}), lambda: units(crossed={"f": ["p", "r"]}),
    ),
    "redraw": (units, lambda: units(redraw=["dropout"])),
    "seed of the design": (units, lambda: units(seed=1)),
    "beta": (of, lambda: of(beta=(1, 3.000001))),
    "sigma": (of, lambda: of(sigma=0.750001)),
    "cell": (of, cell),
    "parameter": (
        lambda: of(violations=[v.ResidualsFrom(v.StudentT(5))]),
        lambda: of(violations=[v.ResidualsFrom(v.StudentT(5.000001))]),
    ),
    "object": (lambda: rare(1.0), lambda: rare(1000.0)),
    "constant": (drawing, lambda: drawing("5.0", "6.0")),
    "default": (drawing, lambda: drawing("3.0", "4.0")),
    "nested": (drawing, lambda: drawing("11.0", "12.0")),
    "global": (drawing, lambda: drawing("7.0", "8.0")),
    "closure": (drawing, lambda: drawing(closed=2.5)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_another_definition_is_another_mechanism(change):
    old, new = CHANGES[change]
    assert identity(old()) == identity(old())
    assert identity(old())["definition"] != identity(new())["definition"]


def test_last_bits_do_not_count():
    """As another machine's arithmetic may give them."""
    assert (
        identity(of(beta=(1, 3.0 + 1e-14)))["definition"]
        == identity(of(beta=(1, 3.0)))["definition"]
    )


def test_comments_and_places_do_not_count():
    """Nor what a record leaves out where it is compared."""
    one, other = (of(violations=[v.ResidualsFrom(Noted(1.0, note))]) for note in "ab")
    assert identity(one) == identity(other)
    moved = drawing("    def law", "    # a comment\n\n    def law")
    assert identity(moved) == identity(drawing())


@pytest.mark.slow
def test_another_process_tells_the_same():
    code = (
        "import json, test_identity as t\n"
        "print(json.dumps({k: t.identity(old()) for k, (old, _) in t.CHANGES.items()}))"
    )
    path = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"}
    made = subprocess.run(
        [sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True
    )
    here = {name: identity(old()) for name, (old, _) in CHANGES.items()}
    assert json.loads(made.stdout.splitlines()[-1]) == here


def test_a_study_is_resumed_by_its_own_mechanism_only(tmp_path):
    def run(size, **options):
        where = {"n": 16, "chunk": 8, "seed": 1, "out": tmp_path / "s", **options}
        return hlm.study(None, {"m": rare(size)}, METHODS, **where)

    made = run(1.0)
    assert run(1.0, resume=True).estimates.equals(made.estimates)
    with pytest.raises(StudyFolderError, match="differs in mechanisms"):
        run(1000.0, resume=True)


def test_a_seed_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(OptionError, match="seed"):
        hlm.study(None, {"m": of()}, n=8, seed=10**6000, out=tmp_path / "s")
