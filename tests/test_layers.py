"""The architecture: imports go one way, heavy libraries stay where they are, modules are short."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxhlm"

# Lowest first: a folder imports from folders before it only; modules without one tie them together.
FOLDERS = ("language", "engine", "rows", "inference", "resampling", "results", "studies", "figures")
# The same, module by module: each imports from layers above its own line only.
LAYERS = (
    ("scopes",),
    ("cache", "errors", "memory", "precision", "status", "engine.small", "reference", "datasets"),
    ("language.words", "utf8"),
    ("language.functions", "language.nodes"),
    ("language.opaque",),
    ("language.expression",),
    ("language.algebra",),
    ("formula",),
    ("notation", "processes"),
    ("arguments", "language.linear"),
    ("csvtable",),
    ("suffstats", "engine.trust", "streams", "files", "factors"),
    (
        "inference.criteria",
        "inference.tails",
        "rows.segments",
        "covariance",
        "engine.loop",
        "rows.columns",
        "rows.rowwise",
        "rows.estimable",
        "engine.blocks",
        "engine.chunks",
        "engine.stacked",
        "studies.distributions",
        "studies.panel",
        "studies.performance",
        "figures.canvas",
        "studies.lock",
        "studies.tomltext",
        "studies.manifest",
        "results.labels",
        "results.choosing",
    ),
    ("rows.evaluation", "engine.whitened"),
    ("rows.coding",),
    (
        "studies.folder",
        "studies.measured",
        "rows.identified",
        "deviance",
        "engine.start",
        "engine.scan",
        "optimise",
        "rows.terms",
        "rows.grouping",
        "results.varcorr",
        "inference.information",
        "inference.mixtures",
        "inference.hypotheses",
        "studies.binomial",
        "resampling.reflate",
        "resampling.intervals",
        "truth",
        "studies.builder",
        "studies.extending",
        "studies.violation",
    ),
    ("rows.equal_groups", "rows.checks", "rows.standardise", "engine.boundary"),
    (
        "rows.response",
        "engine.derivatives",
        "engine.search",
        "design",
        "results.tables",
        "studies.uncertainty",
        "studies.missingness",
        "studies.planning",
        "studies.measures_table",
        "figures.measure_plots",
        "figures.estimate_plots",
    ),
    (
        "engine.dense",
        "model",
        "rows.drawing",
        "inference.lmlist",
        "rows.moments",
        "rows.products",
        "inference.refgrid",
        "rows.groupwise",
        "rows.groupstats",
        "results.anova",
        "inference.nesting",
        "violations",
    ),
    ("engine.lanes", "rows.lanerows", "studies.generate", "studies.layout", "studies.pooled"),
    ("engine.minimum",),
    ("engine.compiled", "rows.replicates"),
    ("engine.rounds", "engine.minimiser"),
    ("estimates",),
    (
        "pipeline",
        "results.verify",
        "inference.degrees",
        "inference.explained",
        "inference.influence",
        "inference.parameters",
        "inference.robust",
    ),
    (
        "rows.sources",
        "progress",
        "inference.henderson",
        "results.robust_tables",
        "results.means_tables",
        "results.prediction",
        "inference.dropped",
        "inference.held",
        "inference.leaveout",
        "studies.analytic",
    ),
    (
        "rows.apart",
        "rows.frames",
        "inference.leverage",
        "inference.random_terms",
        "inference.holding",
        "inference.roots",
        "rows.drawn",
    ),
    ("resampling.cases",),
    ("resampling.schemes",),
    ("inference.profiles", "results.fit_rows"),
    ("results.record",),
    (
        "results.storage",
        "results.presenters",
        "results.refitting",
        "results.comparison",
        "results.intervals",
    ),
    ("results.coefficients", "results.units"),
    ("results.quality", "results.summaries"),
    ("results.fit",),
    ("results.compare",),
    ("results.batch", "rows.inputs", "figures.fit_plots"),
    ("fit", "many", "studies.methods", "plot"),
    ("studies.fitting",),
    (
        "article",
        "studies.simulated",
        "results.bootstraps",
        "results.bootstrap_tests",
        "studies.conditions",
    ),
    ("studies.mechanisms", "studies.study"),
    ("studies.vary",),
    ("studies.powers",),
    ("studies.curves", "studies.studyfile"),
    ("studies.commands",),
    ("cli",),
    ("__main__",),
)
LAYER = {module: i for i, layer in enumerate(LAYERS) for module in layer}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)
# What takes long to import, or belongs to one side of the library.
ALLOWED = {
    "optax": {"engine.compiled", "engine.minimiser", "optimise"},
    "pyarrow": {"files"},
    "rich": {"progress"},
    "scipy": {"inference.tails"},
    "matplotlib": {
        "figures.canvas",
        "figures.measure_plots",
        "figures.estimate_plots",
        "figures.fit_plots",
    },
}


def imports(module):
    """Names of imported modules, type-checking imports left out."""
    name = f"{module.replace('.', '/')}.py" if module != "datasets" else "datasets/__init__.py"
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{a.name}" for a in node.names]
            found.update(n if n.removeprefix("jaxhlm.") in LAYER else node.module for n in inside)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def own_imports(module):
    """Modules of the package that ``module`` imports."""
    return {n.removeprefix("jaxhlm.") for n in imports(module) if n.startswith("jaxhlm.")}


def test_every_module_has_a_layer():
    assert sorted(set(LAYER) - {"datasets"}) == MODULES


@pytest.mark.parametrize("module", [*MODULES, "datasets"])
def test_imports_go_down(module):
    assert not {name for name in own_imports(module) if LAYER[name] >= LAYER[module]}


@pytest.mark.parametrize("module", [m for m in MODULES if "." in m])
def test_folders_import_folders_below(module):
    allowed = FOLDERS[: FOLDERS.index(module.split(".")[0]) + 1]
    above = {n for n in own_imports(module) if "." in n and n.split(".")[0] not in allowed}
    assert not above


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


# What users call, with all of its documentation: methods of a few lines that hand on.
FACADES = {"results.fit", "results.batch"}


def lines_of(module):
    """Lines of a module; of a facade without its docstrings."""
    text = (PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    if module not in FACADES:
        return len(text.splitlines())
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    told = [node.body[0] for node in nodes if ast.get_docstring(node)]
    return len(text.splitlines()) - sum(d.end_lineno - d.lineno + 1 for d in told)


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short(module):
    assert lines_of(module) <= 400


@pytest.mark.parametrize("module", sorted(FACADES))
def test_facades_only_hand_on(module):
    """No method of a facade has more than a few statements beside its docstring."""
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    lengths = {
        f"{cls.name}.{f.name}": len(f.body) - bool(ast.get_docstring(f))
        for cls in classes
        for f in cls.body
        if isinstance(f, ast.FunctionDef)
    }
    assert {name: n for name, n in lengths.items() if n > 7} == {}
