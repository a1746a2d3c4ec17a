"""Where the repository, the library, the tests and their data lie."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DATA = TESTS / "data"
PACKAGE = ROOT / "jaxhlm"


def module_of(path):
    """The name of a file of the library, ``""`` for the library itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
