"""``__all__`` of every module is what it offers, and the library's is what its users name."""

import ast
import re
from dataclasses import is_dataclass
from importlib import import_module

import pytest

import jaxhlm as hlm
from jaxhlm import errors, plot, violations
from places import PACKAGE, ROOT, module_of

# Public modules that ``import *`` leaves alone: figures need matplotlib, which is optional.
MODULES = {"plot", "violations", "errors", "reference", "datasets"}
TEXTS = [ROOT / "README.md", *PACKAGE.rglob("*.py")]
RE_EXPORTING = {"", "plot", "violations"}


def tree_of(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


FILES = {module_of(path): path for path in PACKAGE.rglob("*.py")}
OFFERING = sorted(name for name in FILES if "__all__ = " in FILES[name].read_text(encoding="utf-8"))


def defined(tree):
    """Public functions and classes, and all constants, that a module defines."""
    functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    public = {name for name in functions if not name.startswith("_")}
    assigned = [n for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign)]
    names = {x.id for n in assigned for x in ast.walk(n) if isinstance(x, ast.Name)}
    return public, names


def re_exported(tree):
    """Names that are imported as themselves, which says that they are offered here."""
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    return {a.name for n in imports for a in n.names if a.asname == a.name}


@pytest.mark.parametrize("name", OFFERING)
def test_a_module_lists_all_that_it_defines_and_nothing_else(name):
    module = import_module(f"jaxhlm.{name}".rstrip("."))
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert all(hasattr(module, one) for one in module.__all__)
    public, constants = defined(tree_of(name))
    assert public <= {*module.__all__} | {"__getattr__", "__dir__"}
    if name not in RE_EXPORTING:
        assert {*module.__all__} <= public | constants


def test_every_module_that_defines_something_lists_it():
    others = {name for name in FILES if name not in OFFERING}
    assert {name for name in others if defined(tree_of(name))[0]} == set()


def test_the_library_lists_what_it_imports_for_its_users():
    assert {*hlm.__all__} == re_exported(tree_of("")) - {"plot"}
    assert {*hlm.__all__, "plot"} == {*dir(hlm)}
    assert dir(hlm.plot) == hlm.plot.__all__


def offered_below(folder, *but):
    """What the modules of a folder offer, without some, which serve the others."""
    left_out = {f"{folder}.{name}" for name in but}
    inner = (n for n in FILES if n.startswith(f"{folder}.") and n not in left_out)
    modules = [import_module(f"jaxhlm.{name}") for name in inner]
    return {one: getattr(module, one) for module in modules for one in module.__all__}


def test_every_figure_is_offered():
    assert {*offered_below("plot", "canvas", "subject")} <= {*plot.__all__}


def test_every_violation_and_distribution_is_offered():
    records = {n for n, one in offered_below("violations", "panel").items() if is_dataclass(one)}
    assert len(records) > 9 and records <= {*violations.__all__}


def test_all_errors_are_listed():
    derived = [errors.JaxhlmError, errors.JaxhlmWarning]
    for one in derived:
        derived += one.__subclasses__()
    own = {one.__name__ for one in derived if one.__module__ == "jaxhlm.errors"}
    assert own <= {*errors.__all__}


def test_what_the_texts_name_is_there():
    """``hlm.name`` and ``hlm.module.name`` of the README and of every docstring."""
    texts = [path.read_text(encoding="utf-8") for path in TEXTS]
    named = {n for text in texts for n in re.findall(r"\bhlm\.([A-Za-z_]+)(?:\.(\w+))?", text)}
    assert len(named) > 30
    for name, inner in named:
        assert name in {*hlm.__all__} | MODULES, name
        if name in MODULES and inner:
            assert inner in import_module(f"jaxhlm.{name}").__all__, f"{name}.{inner}"
