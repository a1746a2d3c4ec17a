"""The architecture: imports go one way, heavy libraries stay where they are, modules are short."""

import ast
from functools import cache

import pytest

from places import PACKAGE, TESTS, module_of

# Lowest first: a folder imports from itself and from folders before it.
FOLDERS = (
    "core",
    "storage",
    "language",
    "linalg",
    "likelihood",
    "optimise",
    "design",
    "statistics",
    "estimation",
    "sources",
    "inference",
    "resampling",
    "results",
    "fitting",
    "violations",
    "studies",
    "plot",
    "cli",
)
# Modules that users know by these names, and that every folder may import.
PUBLIC = {"errors", "reference", "datasets"}


FILES = {module_of(path): path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}
MODULES = sorted(FILES)
# What takes long to import, or belongs to one side of the library.
ALLOWED = {
    "optax": {"optimise.compiled", "optimise.minimise", "optimise.newton"},
    "pyarrow": {"core.files", "core.pieces"},
    "rich": {"estimation.progress"},
    "IPython": {"estimation.progress"},
    "scipy": {
        "inference.moderation",
        "inference.multiplicity",
        "inference.robust_prior",
        "inference.tails",
        "sources.annotated",
    },
    "openpyxl": {"core.spreadsheet"},
    "h5py": {"sources.annotated"},
    "zarr": {"sources.annotated"},
    "matplotlib": {
        "plot.canvas",
        "plot.measure_plots",
        "plot.estimate_plots",
        "plot.fit_plots",
        "plot.means_plots",
        "plot.profile_plots",
        "plot.residual_plots",
        "plot.unit_plots",
        "plot.response_plots",
    },
}


@cache
def imports(module):
    """Names of imported modules, type-checking imports left out."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{a.name}" for a in node.names]
            found.update(n if n.removeprefix("jaxhlm.") in FILES else node.module for n in inside)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def own_imports(module):
    """Modules of the package that ``module`` imports."""
    return {n.removeprefix("jaxhlm.") for n in imports(module) if n.startswith("jaxhlm.")}


def folder(module):
    return module.split(".")[0]


def test_every_module_lies_in_a_folder():
    assert {folder(module) for module in MODULES} == {*FOLDERS, *PUBLIC, "__main__"}


@pytest.mark.parametrize("module", [m for m in MODULES if folder(m) in FOLDERS])
def test_folders_import_folders_below(module):
    allowed = {*FOLDERS[: FOLDERS.index(folder(module)) + 1], *PUBLIC}
    assert not {name for name in own_imports(module) if folder(name) not in allowed}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_modules_rest_on_the_lowest_folder(module):
    assert {folder(name) for name in own_imports(module)} <= {*PUBLIC, "core"}


def test_tests_lie_in_folders_of_the_same_names():
    """``library`` has what concerns all of them, ``benchmarks`` what bench/ runs."""
    files = set(TESTS.rglob("test_*.py"))
    assert {path.parent.name for path in files} <= {*FOLDERS, *PUBLIC, "library", "benchmarks"}
    assert {path.parent.parent for path in files} == {TESTS}
    assert len({path.name for path in files}) == len(files)


def test_no_modules_import_each_other():
    below, done = {m: own_imports(m) & {*FILES} - {m} for m in MODULES}, set()
    while ready := {m for m in MODULES if m not in done and below[m] <= done}:
        done |= ready
    assert {*MODULES} - done == set()


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
FACADES = {
    f"results.{module}"
    for module in (
        "estimated", "coefficient_results", "mean_results", "row_results", "unit_results",
        "variance_results", "fit_results", "fit", "batch", "batch_tests",
    )
}  # fmt: skip


def lines_of(module):
    """Lines of a module; of a facade without its docstrings."""
    text = FILES[module].read_text(encoding="utf-8")
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
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    lengths = {
        f"{cls.name}.{f.name}": len(f.body) - bool(ast.get_docstring(f))
        for cls in classes
        for f in cls.body
        if isinstance(f, ast.FunctionDef)
    }
    assert {name: n for name, n in lengths.items() if n > 7} == {}
