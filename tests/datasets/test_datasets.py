"""The bundled data sets are the ones lme4's reference values were made from."""

import pandas as pd
import pytest

from jaxhlm.datasets import load_dataset
from jaxhlm.errors import OptionError

CASES = [
    ("article", (900, 4), ["unit", "a", "x", "y"], 30),
    ("math_achieve", (7185, 7), ["School", "Minority", "Sex", "SES", "MathAch"], 160),
    ("sleepstudy", (180, 3), ["Reaction", "Days", "Subject"], 18),
]


@pytest.mark.parametrize(("name", "shape", "columns", "groups"), CASES)
def test_shape_columns_and_groups(name, shape, columns, groups):
    data = load_dataset(name)
    group = {"article": "unit", "math_achieve": "School", "sleepstudy": "Subject"}[name]
    assert data.shape == shape
    assert list(data)[: len(columns)] == columns
    assert data[group].nunique() == groups
    assert not data.isna().any(axis=None)


def test_labels_are_categorical_strings():
    data = load_dataset("math_achieve")
    for name in ("School", "Minority", "Sex", "Sector"):
        assert isinstance(data[name].dtype, pd.CategoricalDtype)
    assert list(data["Sector"].cat.categories) == ["Catholic", "Public"]
    assert load_dataset("sleepstudy")["Subject"].iloc[0] == "308"


def test_values_are_as_published():
    sleep = load_dataset("sleepstudy")
    assert sleep["Reaction"].iloc[[0, -1]].tolist() == [249.56, 364.1236]
    assert load_dataset("article")["y"].iloc[0] == -10.9493783810883


def test_each_call_returns_its_own_frame():
    mine = load_dataset("article")
    mine.loc[0, "y"] = 0.0
    assert load_dataset("article").loc[0, "y"] != 0.0


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(OptionError, match="'Sleepstudy': choose one of 'article', 'math_achieve'"):
        load_dataset("Sleepstudy")
