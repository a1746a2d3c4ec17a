"""The article's companion: a page that holds all it shows, and says what the fits say."""

from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
from cases import article
from jaxhlm.cli.main import main

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Its attributes, its text, and whether every element is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.text, self.ids = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value) for name, value in attrs]
        self.ids |= {value for name, value in attrs if name == "id"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name):
        return [value for _, found, value in self.found if found == name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("article") / "new"
    assert main(["article", "--replicates", "40", "--seed", "1", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def page(folder):
    page = Page()
    page.feed((folder / "index.html").read_text(encoding="utf-8"))
    page.close()
    assert not page.open
    return page


@pytest.mark.slow
def test_the_page_needs_nothing_but_its_folder(folder, page):
    assert not {tag for tag, *_ in page.found} & {"script", "link", "iframe", "object"}
    assert not {name for _, name, _ in page.found if name.startswith("on")}
    assert "url(" not in "".join(page.text) and "@import" not in "".join(page.text)
    for link in page.values("href"):
        assert link[1:] in page.ids if link.startswith("#") else (folder / link).is_file()
    pictures = page.values("src")
    assert len(pictures) == len(page.values("alt")) == 4
    start = "data:image/png;base64,"
    inside = {b64decode(source.removeprefix(start)) for source in pictures}
    assert inside == {file.read_bytes() for file in folder.glob("*.png")}


@pytest.mark.slow
def test_the_page_tells_the_fit(page):
    fit, text = article(), "".join(page.text)
    assert str(fit.summary("satterthwaite")) in text
    for value in (*fit.fixef, *fit.varcorr.sd, fit.varcorr.corr.iloc[0, 1], fit.sigma):
        assert f"{value:.3f}" in text
    low, high = fit.confint("profile").loc["cor_x.(Intercept)|unit"]
    assert f"corr\n      0.900\n      0.915\n      {low:.3f}\n      {high:.3f}\n      yes" in text
    assert "height 1 − 0.15a, slope 3 + 0.3a" in text
    assert "8 of the 8 intervals" in " ".join(text.split())
    assert "$" not in text and "nan" not in text.lower().split()


@pytest.mark.slow
def test_what_lies_beside_the_page(folder):
    pd.testing.assert_frame_equal(pd.read_csv(folder / "article.csv"), hlm.load_dataset("article"))
    coverage = pd.read_csv(folder / "coverage.csv")
    assert set(coverage["n"]) == {4} and coverage["violated"].nunique() == 8
    assert np.isfinite(coverage["coverage"]).all()
    assert len(pd.read_csv(folder / "recovery.csv")) == 8


def test_a_folder_that_cannot_be_is_said_first(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr("jaxhlm.cli.article.run", None)
    assert main(["article", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == f"jaxhlm: {tmp_path / 'file'}: File exists\n"
