"""What a user meets before any data: names, docstrings, and an import without side effects."""

import inspect
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from h5ad import write_h5ad
from places import ROOT


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", hlm.__all__)
def test_public_names_are_documented(name):
    doc = inspect.getdoc(getattr(hlm, name))
    assert doc
    if callable(getattr(hlm, name)) and not issubclass(type(getattr(hlm, name)), type):
        assert ">>>" in doc, f"{name} has no example"


def test_no_module_hides_a_name_that_is_imported_when_asked_for():
    modules = {path.stem for path in (ROOT / "jaxhlm").glob("*.py")}
    assert not modules & set(hlm._MODULE_OF)


def test_import_has_no_side_effects():
    """No device is touched, no setting changed, and nothing slow and unneeded is loaded."""
    code = (
        "import sys, jax, jaxhlm\n"
        "from jax._src import xla_bridge\n"
        "slow = {'optax', 'matplotlib', 'pyarrow', 'scipy.special', 'scipy.stats'}\n"
        "slow &= set(sys.modules)\n"
        "print(jax.config.jax_enable_x64, xla_bridge.backends_are_initialized(), sorted(slow))"
    )
    assert run(code) in ("False False []", "False False ['pyarrow']")


def test_a_small_fit_compiles_nothing():
    """A single fit from a cold process runs in NumPy and never loads optax."""
    code = (
        "import sys, jaxhlm as hlm\n"
        "data = hlm.load_dataset('sleepstudy')\n"
        "fit = hlm.fit('Reaction ~ Days + (1 + Days | Subject)', data)\n"
        "print(round(fit.criterion, 4), 'optax' in sys.modules)"
    )
    assert run(code) == "1743.6283 False"


def test_the_readme_shows_what_is_printed():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    fit = hlm.fit("MathAch ~ SES * MEANSES + (1 + SES | School)", hlm.load_dataset("math_achieve"))
    assert f"```\n{fit}\n```" in readme


def test_the_readme_on_power_and_studies_runs_and_prints_that(capsys):
    """Word for word, but for the number of data sets of the last mechanism."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    truth = next(line for block in blocks for line in block.splitlines() if "Truth.of(" in line)
    (what_if,) = (block for block in blocks if "solve_power" in block)
    assert what_if.count("1000,") == 1
    exec(truth + "\n" + what_if.replace("1000,", "20,"), {"hlm": hlm})
    (promised,) = re.findall(r"^# (units = .*)$", what_if, re.MULTILINE)
    assert capsys.readouterr().out.startswith(f"{promised}\n\nDesign    930 rows")


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
def test_the_readme_on_many_responses_runs(tmp_path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (code,) = (block for block in blocks if "volcano" in block)
    rng, subject = np.random.default_rng(1), np.repeat(np.arange(12), 5)
    samples = pd.DataFrame({"subject": subject, "time": np.tile(np.arange(5.0), 12)})
    samples["treatment"] = np.where(subject % 2, "drug", "control")
    names = [f"gene {j}" for j in range(40)]
    noise = rng.normal(size=(60, 40)) + rng.normal(size=(12, 40))[subject]
    expression = pd.DataFrame(rng.normal(8, 2, 40) + noise, columns=names)
    expression["gene 7"] += 2.0 * samples["time"] * (subject % 2)
    precision = pd.DataFrame(rng.gamma(9.0, 1 / 9, (60, 40)), columns=names)
    write_h5ad(tmp_path / "expression.h5ad", expression, samples, names)
    monkeypatch.chdir(tmp_path)
    given = {"hlm": hlm, "precision": precision}
    exec(code, given)
    plt.close("all")
    assert given["found"]["response"].unique().tolist() == ["gene 7"]


def test_top_level_is_exactly_this():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {path.split("/")[0] for path in listed}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {"pyproject.toml", "README.md", "jaxhlm", "tests", "bench"}
