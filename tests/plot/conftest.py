"""Figures are drawn in memory and closed."""

import pytest
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _closed():
    plt.switch_backend("agg")
    yield
    plt.close("all")
