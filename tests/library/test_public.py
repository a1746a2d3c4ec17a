"""What a user meets before any data: names, docstrings, and an import without side effects."""

import inspect
import subprocess
import sys

import pytest

import jaxhlm as hlm
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


def test_a_small_fit_starts_nothing():
    """A single fit from a cold process runs in NumPy: no device is touched, optax never loaded."""
    code = (
        "import sys, jaxhlm as hlm\n"
        "from jax._src import xla_bridge\n"
        "data = hlm.load_dataset('sleepstudy')\n"
        "fit = hlm.fit('Reaction ~ Days + (1 + Days | Subject)', data)\n"
        "started = xla_bridge.backends_are_initialized()\n"
        "print(round(fit.criterion, 4), started, 'optax' in sys.modules)"
    )
    assert run(code) == "1743.6283 False False"


def test_top_level_is_exactly_this():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {path.split("/")[0] for path in listed}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {"pyproject.toml", "README.md", "jaxhlm", "tests", "bench"}
