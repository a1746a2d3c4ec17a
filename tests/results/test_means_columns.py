"""Columns of tables of marginal means are told apart."""

import numpy as np
import pytest

import jaxhlm as hlm
from jaxhlm.errors import OptionError


@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize(
    ("name", "ask"),
    [
        (
            "contrast",
            lambda m, name: m.emmeans("x", by=name, at={"x": [1, 2]}, contrasts="pairwise"),
        ),
        ("statistic", lambda m, name: m.joint_tests(by=name)),
        ("emmean", lambda m, name: m.emmeans(name)),
        ("trend", lambda m, name: m.emtrends(name, "x")),
    ],
)
def test_a_variable_that_is_called_as_a_column_of_the_result_is_refused(name, ask):
    data = hlm.load_dataset("article").assign(**{name: lambda d: np.where(d.x > 0, "p", "q")})
    fit = hlm.fit(f"y ~ x * {name} + (1 | unit)", data)
    with pytest.raises(OptionError, match=f"two columns '{name}'"):
        ask(fit, name)
