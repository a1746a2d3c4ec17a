"""``Exported``: printed results that go into papers, reports and spreadsheets."""

from __future__ import annotations

from jaxhlm.core.document import Printed, as_html, as_latex, as_markdown
from jaxhlm.core.files import PathName, check_target, write_atomically
from jaxhlm.core.spreadsheet import write_blocks
from jaxhlm.errors import OptionError

__all__ = ["Exported"]


class Exported(Printed):
    """A printed result in other forms, all of which show what ``print`` shows."""

    def to_html(self) -> str:
        """A piece of HTML: tables and paragraphs, without a style of its own."""
        return as_html(self._blocks())

    def to_latex(self) -> str:
        r"""LaTeX: ``tabular``s with the rules of the package booktabs, and paragraphs.

        Letters that are not in ASCII need LuaLaTeX or XeLaTeX, but for a few signs.
        """
        return as_latex(self._blocks())

    def to_markdown(self) -> str:
        """Markdown with tables, as GitHub and pandoc read them."""
        return as_markdown(self._blocks())

    def to_excel(self, path: PathName) -> None:
        """Write an Excel file (needs openpyxl, ``pip install "jaxhlm[excel]"``).

        Numbers are numbers, rounded as they are printed. For all digits write the frame:
        ``fit.tidy().to_excel(path)``.

        Args:
            path: the file, named .xlsx; an older one of this name is replaced.

        Raises:
            FileError: the file cannot be written.
            OptionError: it has another ending.
            JaxhlmError: openpyxl is not installed.
        """
        if check_target(path).suffix.lower() != ".xlsx":
            raise OptionError(f"{path}: an Excel file is named .xlsx; give such a name")
        write_atomically(path, lambda at: write_blocks(at, self._blocks()))
