"""Names are drawn as they are: matplotlib reads mathematics between two dollars."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.cbook import is_math_text
from matplotlib.text import Text

import jaxhlm as hlm
from jaxhlm import plot

# Mathematics that matplotlib cannot read, in every name that there is.
NAME = "a$_b$_"


@cache
def fitted():
    rng = np.random.default_rng(1)
    unit = np.repeat(np.arange(12), 6)
    d = pd.DataFrame({"unit": [f"{NAME}{u}" for u in unit], NAME: rng.normal(size=72)})
    d["kind"] = rng.choice([NAME, f"{NAME}2"], 72)
    d["y"] = d[NAME] * (1.0 + rng.normal(size=12)[unit]) + rng.normal(size=12)[unit]
    d[f"y{NAME}"] = d.pop("y") + rng.normal(size=72)
    return hlm.fit(f"`y{NAME}` ~ `{NAME}` * kind + (1 + `{NAME}` | unit)", d)


def estimates():
    rng = np.random.default_rng(2)
    d = pd.DataFrame({"method": [NAME, f"{NAME}2"] * 40, "estimate": rng.normal(size=80)})
    return d.assign(
        term=NAME, truth=0.0, std_error=1.0, status="converged", condition=NAME,
        p_value=rng.uniform(size=80), conf_low=d["estimate"] - 2.0, conf_high=d["estimate"] + 2.0,
    )  # fmt: skip


def measured():
    return hlm.measures(estimates(), by=["condition", "method", "term"])


def hypotheses():
    table = pd.DataFrame({"response": [NAME, f"{NAME}2"], "contrast": NAME, "z": [1.0, -1.0]})
    return table.assign(estimate=table["z"], p_value=0.3, p_adjusted=[0.01, 0.6], std_error=1.0)


PLOTS = {
    "profile": (1, lambda ax: plot.profile(fitted().profile(NAME), ax=ax)),
    "emmeans": (1, lambda ax: plot.emmeans(fitted(), "kind", ax=ax)),
    "caterpillar": (2, lambda ax: plot.caterpillar(fitted(), ax=ax)),
    "shrinkage": (1, lambda ax: plot.shrinkage(fitted(), ax=ax)),
    "qq": (2, lambda ax: plot.qq(fitted(), ax=ax)),
    "ranef_ellipse": (1, lambda ax: plot.ranef_ellipse(fitted(), ax=ax)),
    "unit_lines": (4, lambda ax: plot.unit_lines(fitted(), n=4, ax=ax)),
    "residuals": (1, lambda ax: plot.residuals(fitted(), ax=ax)),
    "lollipop": (1, lambda ax: plot.lollipop(measured(), "bias", ax=ax)),
    "nested_loop": (1, lambda ax: plot.nested_loop(measured(), "bias", ["condition"], ax=ax)),
    "power_curve": (1, lambda ax: plot.power_curve(measured(), "condition", by="method", ax=ax)),
    "histogram": (1, lambda ax: plot.histogram(estimates(), ax=ax)),
    "zip_plot": (2, lambda ax: plot.zip_plot(estimates(), by="method", ax=ax)),
    "volcano": (1, lambda ax: plot.volcano(hypotheses(), ax=ax)),
    "contrast_heat": (1, lambda ax: plot.contrast_heat(hypotheses(), ax=ax)),
}


def written(figure):
    """The texts of a figure that hold dollars, once they have been drawn."""
    figure.canvas.draw()
    return [x for x in figure.findobj(Text) if "$" in x.get_text() and x.get_visible()]


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("given", [False, True])
def test_a_name_with_dollars_is_no_mathematics(name, given):
    count, draw = PLOTS[name]
    own = plt.subplots(1, count, squeeze=False)[1][0]
    axes = np.ravel(np.asarray(draw(None if not given else [own[0], own][count > 1]), dtype=object))
    texts = [text.get_text() for text in written(axes[0].figure)]
    assert texts
    assert not any(map(is_math_text, texts))
    assert all(NAME in text.replace(r"\$", "$") for text in texts)
    # What the user writes in the same places is.
    assert is_math_text(axes[0].set_xlabel(r"$\beta$").get_text())
    assert all(text.get_parse_math() for text in axes[0].figure.findobj(Text))
