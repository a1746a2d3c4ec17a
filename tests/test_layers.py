"""The architecture: imports go one way, heavy libraries stay where they are, modules are short."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxhlm"

# Lowest first: a module imports from layers above its own line only.
LAYERS = (
    ("cache", "errors", "precision", "status", "small", "formula", "reference", "datasets"),
    ("notation", "suffstats", "trust", "streams"),
    (
        "inference",
        "tails",
        "segments",
        "covariance",
        "loop",
        "columns",
        "checks",
        "simulate",
        "chunks",
        "stacked",
        "hypotheses",
        "distributions",
        "panel",
        "performance",
        "canvas",
        "folder",
        "files",
    ),
    (
        "measured",
        "standardise",
        "deviance",
        "start",
        "optimise",
        "terms",
        "grouping",
        "collapse",
        "varcorr",
        "information",
        "mixtures",
        "binomial",
        "reflate",
        "bootstrap_intervals",
        "truth",
        "builder",
        "extending",
        "violation",
    ),
    (
        "response",
        "derivatives",
        "design",
        "tables",
        "uncertainty",
        "missingness",
        "planning",
        "measures_table",
        "measure_plots",
        "estimate_plots",
    ),
    (
        "lanes",
        "model",
        "drawing",
        "lmlist",
        "products",
        "refgrid",
        "groupwise",
        "groupstats",
        "anova",
        "nesting",
        "violations",
    ),
    ("minimum", "replicates", "generate", "layout", "pooled"),
    ("compiled",),
    ("engine", "minimiser"),
    ("estimates",),
    (
        "pipeline",
        "verify",
        "storage",
        "degrees",
        "explained",
        "henderson",
        "influence",
        "robust",
        "parameters",
    ),
    (
        "accessors",
        "sources",
        "progress",
        "leverage",
        "robust_tables",
        "prediction",
        "dropped",
        "held",
        "leaveout",
        "analytic",
    ),
    ("effects", "batch_accessors", "frames", "random_terms", "holding", "roots", "drawn"),
    ("cases",),
    ("resampling",),
    ("coefficients", "batch_coefficients"),
    ("quality", "batch_quality"),
    ("compared", "profiles"),
    ("intervals", "batch_compared"),
    ("results",),
    ("batch", "inputs", "fit_plots"),
    ("fit", "methods", "plot"),
    ("article", "simulated", "bootstraps", "bootstrap_tests", "conditions"),
    ("mechanisms", "studies"),
    ("vary",),
    ("powers",),
    ("curves", "studyfile"),
    ("study_commands",),
    ("cli",),
)
LAYER = {module: i for i, layer in enumerate(LAYERS) for module in layer}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
# What takes long to import, or belongs to one side of the library.
ALLOWED = {
    "optax": {"compiled", "minimiser", "optimise"},
    "pyarrow": {"storage"},
    "rich": {"progress"},
    "scipy": {"tails"},
    "matplotlib": {"canvas", "measure_plots", "estimate_plots", "fit_plots"},
}


def imports(module):
    """Names of imported modules, type-checking imports left out."""
    name = f"{module}.py" if module != "datasets" else "datasets/__init__.py"
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            whole = [f"jaxhlm.{a.name}" for a in node.names] if node.module == "jaxhlm" else []
            found.update(whole or [node.module])
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def test_every_module_has_a_layer():
    assert sorted(set(LAYER) - {"datasets"}) == MODULES


@pytest.mark.parametrize("module", [*MODULES, "datasets"])
def test_imports_go_down(module):
    own = {name.split(".")[1] for name in imports(module) if name.startswith("jaxhlm.")}
    upwards = {name for name in own if LAYER[name] >= LAYER[module]}
    assert not upwards


@pytest.mark.parametrize("library", ALLOWED)
def test_heavy_imports_stay_where_they_are(library):
    users = {m for m in MODULES if any(i.split(".")[0] == library for i in imports(m))}
    assert users <= ALLOWED[library]


def test_the_reference_is_independent():
    """NumPy only: no JAX, and nothing of the code that it checks."""
    assert imports("reference") == {"collections.abc", "dataclasses", "typing"} | {
        "numpy",
        "numpy.typing",
    }


def test_modules_are_short():
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > 400} == {}
