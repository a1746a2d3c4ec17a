"""Fits that were read from a file, alone and with their data, say what they said before."""

import numpy as np
import pandas as pd
import pytest
from test_shared_names import NOT_ALIKE, SHARED, assert_alike, called, fitted, given, told

import jaxhlm as hlm
import tolerances as tol
from cases import DATA
from jaxhlm import errors
from jaxhlm.core import files
from jaxhlm.results import storage

pytestmark = [
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.NotEstimableWarning"),
    pytest.mark.filterwarnings("ignore::jaxhlm.errors.RankDeficientWarning"),
]
CASES = (
    ("aliased", "responses"),
    ("singular", "replicates"),
    ("weights of its own", "responses"),
    ("by ML", "replicates"),
    ("beside a failure", "responses"),
    ("offset", "replicates"),
)
# Names of a batch only, and how they are called; the others are SHARED.
OF_MANY = {
    "test": called({"x against q": "x - aq"}),
    "top": called(contrasts=["x", "aq"], joint=True),
    "counts": None,
    "ok": None,
    "lanes": None,
    "index": None,
    "summary": called(),
}
NEITHER = {"loc", "over_lanes", "over_groups", "to_parquet", "read_parquet", "source", "moderation"}
# What tests of any contrast are made of, and so is told without the data.
WITHOUT_DATA = {
    *OF_MANY,
    "contrast",
    "joint_test",
    "df_residual",
    "df",
    "p_values",
    "tidy",
    "vcov_adj",
    "confint",
}


def said(fits, name):
    """What a name says of the fits that did not fail."""
    if name in SHARED:
        take, found = SHARED[name][0], told(fits, name)
        return {i: take(found, i) for i in np.flatnonzero(fits.ok).tolist()}
    call = OF_MANY[name]
    return call(getattr(fits, name)) if call else getattr(fits, name)


def both_methods(case):
    return "satterthwaite" if case == "by ML" else ["satterthwaite", "kenward-roger"]


def test_every_name_of_a_batch_is_tried():
    public = {name for name in dir(hlm.FitBatch) if name[0] != "_"}
    assert public == {*SHARED, *OF_MANY} | NEITHER | NOT_ALIKE - {"record"}


@pytest.mark.slow
@pytest.mark.parametrize(("case", "kind"), CASES)
def test_read_again(case, kind, tmp_path):
    """With the data everything; without it what tests need, or an error that says what to do."""
    fits, path, wrong = fitted(case, kind), tmp_path / "fits.parquet", []
    _, rows, how = given(case, kind)
    how.pop("reml", None)
    fits.to_parquet(path, df=both_methods(case))
    alone, whole = hlm.FitBatch.read_parquet(path), hlm.FitBatch.read_parquet(path, rows, **how)
    for name in (*SHARED, *OF_MANY):
        if case == "by ML" and name in ("vcov_adj", "df"):
            continue
        expected = said(fits, name)
        for back in (alone, whole):
            try:
                assert_alike(expected, said(back, name))
            except AssertionError as error:
                wrong.append(f"{name}, {back is whole}: {error}")
            except errors.JaxhlmError as error:
                assert back is alone and name not in WITHOUT_DATA, name
                assert "FitBatch.read_parquet(path, data, responses" in str(error)
    assert not wrong, "\n".join(wrong)


def test_fits_are_held_against_the_data_they_are_given(tmp_path):
    """In another order, or fewer of them, they are found; others are refused."""
    fits, path = fitted("rows missing", "responses"), tmp_path / "fits.parquet"
    _, rows, how = given("rows missing", "responses")
    Y = how["responses"]
    fits[[1]].to_parquet(path)
    back = hlm.FitBatch.read_parquet(path, rows, Y[["y", "other"]])
    assert_alike(back.ranef, fits[[1]].ranef)
    assert hlm.FitBatch.read_parquet(path, rows, Y[["y"]].to_numpy()).index.equals(fits.index[1:])
    wrong = {
        "negative": (rows, -Y),
        "shifted": (rows, Y + 1e-3),
        "other": (rows, Y[["other"]].set_axis(["y"], axis=1)),
        "covariate": (rows.assign(x=rows["x"] ** 2), Y),
        "level": (rows.assign(a=rows["a"].replace("p", "s")), Y),
        "number": (rows, Y.to_numpy()),
    }
    for data, responses in wrong.values():
        with pytest.raises(errors.DifferentRowsError):
            hlm.FitBatch.read_parquet(path, data, responses)
    with pytest.raises(errors.DifferentRowsError, match="or weights"):
        hlm.FitBatch.read_parquet(path, rows, Y, weights="w")
    wrong = {"responses": Y}, {"data": rows}, {"data": rows, "responses": Y, "by": "a"}
    for how in (*wrong, {"weights": "w"}):
        with pytest.raises(errors.OptionError, match=r"data=|either responses="):
            hlm.FitBatch.read_parquet(path, **how)


def test_methods_that_a_file_does_not_have_are_named(tmp_path):
    """Satterthwaite's is there by default, in a file written of a file too."""
    fits, path = fitted("singular", "responses"), tmp_path / "fits.parquet"
    fits.to_parquet(path)
    hlm.FitBatch.read_parquet(path)[:1].to_parquet(path)
    back = hlm.FitBatch.read_parquet(path)
    assert_alike(back.test(["x", "aq"]), fits[:1].test(["x", "aq"]))
    assert_alike(back.df_residual, fits[:1].df_residual)
    with pytest.raises(errors.JaxhlmError, match="needs the data"):
        back.test(["x"], moderate=True)
    for call in (back.contrast, back.joint_test):
        with pytest.raises(errors.JaxhlmError, match=r'to_parquet\(path, df="kenward-roger"\)'):
            call("x", "kenward-roger")
    fits.to_parquet(path, df="normal")
    with pytest.raises(errors.JaxhlmError, match=r'to_parquet\(path, df="satterthwaite"\)'):
        hlm.FitBatch.read_parquet(path).test()


def test_folders_too(tmp_path):
    _, rows, how = given("rows missing", "responses")
    fits = fitted("rows missing", "responses")
    hlm.fit_many(fits.model.formula, rows, **how, out=tmp_path / "f", progress=False)
    assert_alike(hlm.read_fits(tmp_path / "f", rows, **how)[:].ranef, fits.ranef)
    turned = hlm.read_fits(tmp_path / "f", rows, how["responses"].T, responses_in="rows")
    assert_alike(turned[1].ranef, fits[1].ranef)
    with pytest.raises(errors.JaxhlmError, match=r"read_fits\(folder, data"):
        hlm.read_fits(tmp_path / "f")[:].test()
    with pytest.raises(errors.DifferentRowsError):
        hlm.read_fits(tmp_path / "f", rows, -how["responses"])[1]


def test_formats(tmp_path):
    """A file of the first format is read, with its data as well; one of a later format is not."""
    path, data = DATA / "fits_first_format.parquet", hlm.load_dataset("sleepstudy")
    y = data["Reaction"]
    Y = pd.DataFrame({"Reaction": y, "logged": np.log(y), "constant": 1.0})
    fits = hlm.fit_many("~ Days + (1 | Subject)", data, Y)
    old, whole = hlm.FitBatch.read_parquet(path), hlm.FitBatch.read_parquet(path, data, Y)
    for name in ("tidy", "glance", "p_values", "fixef"):
        assert_alike(told(old, name), told(fits, name), tol.BATCH)
    assert_alike(whole.test(), fits.test(), tol.BATCH)
    frame, own = files.read_parquet(path)
    files.write_parquet(tmp_path / "new.parquet", frame, own | {storage.FORMAT_KEY: b"3"})
    with pytest.raises(errors.FileError, match="format 3 by a newer version of jaxhlm"):
        hlm.FitBatch.read_parquet(tmp_path / "new.parquet")
