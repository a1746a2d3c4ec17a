"""The README runs as written, section by section, in a folder that holds the files it names.

A section's Python blocks share a namespace that begins empty, and its ``bash`` blocks know the
command. Numbers of millions run as thousands. A block behind a comment ``<!-- not run: … -->``
or ``<!-- run in CI -->`` is left out. What is promised was printed before: a block without a
language, and every comment in the line below a ``print``.
"""

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import jaxhlm as hlm
import studies_made
from h5ad import write_h5ad
from places import ROOT

BLOCK = re.compile(
    r"(?:^<!-- (not run: [^\n]+|run in CI) -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = {text.split("\n")[0]: BLOCK.findall(text) for text in README.split("\n## ")}
PROMISED = re.compile(r"^print\(.*\n# (.+)$", re.M)


def samples_and_genes(rng):
    """100 genes of 12 subjects at five times, the drug's slope in one of them."""
    subject = np.repeat(np.arange(12), 5)
    named = pd.Index([f"sample {j}" for j in range(60)], name="sample")
    samples = pd.DataFrame({"subject": subject, "time": np.tile(np.arange(5.0), 12)}, index=named)
    samples["treatment"] = np.where(subject % 2, "drug", "control")
    genes = [*(f"gene {j}" for j in range(99)), "BRCA1"]
    log_mean = rng.normal(5.0, 0.5, 100) + 0.3 * rng.normal(size=(12, 100))[subject]
    log_mean[:, -1] += 0.25 * samples["time"].to_numpy() * (subject % 2)
    return samples, pd.DataFrame(rng.poisson(np.exp(log_mean)), index=named, columns=genes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a reader has, under the names of the README."""
    there, rng = tmp_path_factory.mktemp("reader"), np.random.default_rng(20261129)
    samples, counts = samples_and_genes(rng)
    samples.to_csv(there / "samples.csv")
    counts.to_parquet(there / "counts.parquet")
    expression = np.log2(counts + 1.0)
    expression.to_parquet(there / "expression.parquet")
    expression.T.to_parquet(there / "genes.parquet")
    write_h5ad(there / "expression.h5ad", expression, samples, list(expression))

    article = hlm.load_dataset("article")
    article.to_csv(there / "data.csv", index=False)
    article.to_csv(there / "design.csv", index=False)
    drawn = [article.assign(replicate=r, y=article["y"] + rng.normal(size=900)) for r in range(20)]
    pd.concat(drawn).to_parquet(there / "replicates.parquet")
    (there / "replicates").mkdir()
    pd.concat(drawn).to_parquet(there / "replicates" / "0.parquet")
    (there / "study.toml").write_text(studies_made.TOML)

    command = there / "bin" / "jaxhlm"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jaxhlm "$@"\n')
    command.chmod(0o755)
    return there


def test_every_fence_of_the_readme_is_a_block():
    assert 2 * sum(map(len, SECTIONS.values())) == len(re.findall(r"^```", README, re.M))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
@pytest.mark.parametrize("section", [name for name, blocks in SECTIONS.items() if blocks])
def test_the_readme_runs_and_prints_what_it_says(section, folder, monkeypatch, capfd):
    plt.switch_backend("agg")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    namespace, printed = {"__name__": "__main__"}, ""
    for left_out, language, code in SECTIONS[section]:
        promised = PROMISED.findall(code)
        if not left_out and language == "python":
            exec(re.sub(r"\b(\d+)_000_000\b", r"\1_000", code), namespace)
        elif not left_out and language == "bash":
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
        elif not language:
            promised = [code.rstrip()]
        printed += capfd.readouterr().out
        for text in promised:
            assert text in printed
    plt.close("all")
