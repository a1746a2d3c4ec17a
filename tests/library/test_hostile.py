"""A formula is data: hostile ones are refused through every door, quickly, by our own errors."""

import random
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from hostile import ENDLESS, EXECUTING
from jaxhlm.cli.main import main

LIMIT = 2.0
POWER = ["--beta", "0,1", "--sd", "1", "--sigma", "1", "--test", "x", "--n", "2"]
NO_FORMULAS = [None, b"y ~ x + (1|g)", 3, ["y ~ x"], "", "~", "\x00", "y ~ x\ud800"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("xzwy"))
    return frame.assign(unit=np.repeat(np.arange(12), 5), f=list("abc") * 20, rep=0)


TRUTH = hlm.Truth.of([0.0, 0.0], [1.0])


DOORS = {
    "fit": lambda f, d: hlm.fit(f, d),
    "by": lambda f, d: hlm.fit_many(f, d, by="rep"),
    "responses": lambda f, d: hlm.fit_many(f, d, d[["y"]].to_numpy()),
    "design": lambda f, d: hlm.design(f, d),
    "mechanism": lambda f, d: hlm.mechanism(f, d, TRUTH),
    "lm_list": lambda f, d: hlm.lm_list(f, d),
}


@pytest.mark.parametrize("door", DOORS)
def test_no_formula_runs_code(data, door, tmp_path):
    canary = tmp_path / "canary"
    for kind in EXECUTING:
        term = kind.format(canary=canary)
        for formula in (f"y ~ {term} + (1 | unit)", f"y ~ x + ({term} | unit)"):
            with pytest.raises(hlm.JaxhlmError) as caught:
                DOORS[door](formula, data)
            assert len(str(caught.value)) < 2_000
        with suppress(hlm.JaxhlmError):
            # Some doors do not use the left side.
            DOORS[door](f"{term} ~ x + (1 | unit)", data)
        assert not canary.exists(), term


def test_methods_of_studies_refuse_them_too(data, tmp_path):
    canary = tmp_path / "canary"
    made = hlm.mechanism("y ~ x + (1 | unit)", data, TRUTH)
    for kind in EXECUTING:
        formula = f"y ~ {kind.format(canary=canary)} + (1 | unit)"
        with pytest.raises(hlm.JaxhlmError):
            hlm.study({"a": [1]}, lambda a: made, [hlm.Method("m", formula=formula)], n=2)
        assert not canary.exists()


@pytest.mark.slow
def test_the_command_line_and_study_files_refuse_them(data, tmp_path, capsys):
    canary, csv, toml = tmp_path / "canary", tmp_path / "d.csv", tmp_path / "s.toml"
    data.to_csv(csv, index=False)
    for kind in EXECUTING:
        formula = f"y ~ {kind.format(canary=canary)} + (1 | unit)"
        assert main(["fit", formula, str(csv)]) == 2
        assert main(["fit", formula, str(csv), "--by", "rep"]) == 2
        assert main(["bootstrap", formula, str(csv), "--n", "2"]) == 2
        assert main(["power", formula, str(csv), *POWER]) == 2
        text = formula.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        text = text.replace("\x00", "\\u0000")
        toml.write_text(
            f'formula = "{text}"\nn = 2\n[design]\ndata = "d.csv"\n'
            "[truth]\nbeta = [0, 0]\nsd = [1]\nsigma = 1\n"
        )
        assert main(["study", str(toml), "--out", str(tmp_path / "out")]) == 2
        assert not canary.exists()
        capsys.readouterr()


@pytest.mark.parametrize("term", ENDLESS, ids=lambda term: term[:20])
def test_the_cost_of_a_formula_is_bounded(data, term):
    start = time.process_time()
    with pytest.raises(hlm.JaxhlmError) as caught:
        hlm.design(f"y ~ {term} + (1 | unit)", data)
    assert time.process_time() - start < LIMIT
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("formula", NO_FORMULAS)
def test_what_is_no_formula_is_our_error(data, formula):
    for door in ("fit", "by", "responses", "design", "mechanism", "lm_list"):
        with pytest.raises(hlm.JaxhlmError):
            DOORS[door](formula, data)


PIECES = """
x z w f unit y 0 1 2 3.5 + - * / : ** ^ ~ | || ( ) [ ] { } , . = == < & % ` ' " \\ @ ; ? ! #
I( C( np. np.log( np.mean( poly( bs( df=4 scale( (1|unit) Q('x') contr.sum lambda if not None True
µ %in% x.y levels=['a'] 1e400 np.quantile(x,0.5) np.where(x>0,x,z) `x` 'a' cr(x,df=3) center(z) log(
"""


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.RankDeficientWarning")
def test_random_formulas_raise_our_errors_or_none(data):
    """A fuzzer of words; ``python -m bench.validation.formulas`` is one of grammar, and long."""
    rng = random.Random(11)
    accepted = 0
    for _ in range(3_000):
        pieces = rng.choices(PIECES.split(), k=rng.randint(1, 14))
        side = rng.choice(["", " "]).join(pieces)
        formula = rng.choice([side, f"y ~ {side} + (1 | unit)", f"y ~ x + ({side} | unit)"])
        start = time.process_time()
        try:
            hlm.design(formula, data)
            accepted += 1
        except hlm.JaxhlmError:
            pass
        assert time.process_time() - start < LIMIT, formula
    assert accepted > 3
