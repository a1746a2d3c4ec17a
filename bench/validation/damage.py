"""Damage to every file that the library reads: ``python -m bench.validation.damage --seed 1``.

Each try damages one file and reads what it belongs to. It must end in an error of ours, in the
damaged part being made anew, in the same numbers (the damage hit nothing that is read), or, for
text that has no checksum, in a warning that says what is odd. Other numbers without a word must not
be. A folder of a study is read, and gone on with.
"""

import argparse
import gzip
import json
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import jaxhlm as hlm
from bench import machine
from bench.validation.harms import BYTES, TEXT, TOML, Harm
from jaxhlm.core.files import read_table
from jaxhlm.errors import FileWarning
from jaxhlm.studies.studyfile import read_study_file

FORMULA = "y ~ x + (1 + x | unit)"
OUTCOMES = ("our error", "made anew", "said", "same numbers", "other numbers", "foreign error")
WRONG = OUTCOMES[4:]
Reader = Callable[[Path], Any]


class Try(NamedTuple):
    """One damage: what, to which kind of file, and the file's new contents (None: removed)."""

    damage: str
    kind: str
    path: Path
    contents: bytes | None


def outcome(read: Reader, path: Path, expected: Any) -> str:
    """How reading a damaged file ends: one of ``OUTCOMES``."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found = read(path)
        except hlm.JaxhlmError as error:
            return "our error" if named(error, path) else "foreign error"
        except Exception as error:
            print(f"{path.name}: {type(error).__name__}: {error}")
            return "foreign error"
    said = [str(w.message) for w in heard if issubclass(w.category, FileWarning)]
    if found == expected:
        return "made anew" if any("made anew" in text for text in said) else "same numbers"
    return "said" if said else "other numbers"


def named(error: Exception, path: Path) -> bool:
    """Whether the message says which file, or folder, it is about."""
    return path.name in str(error)


def values(frame: pd.DataFrame) -> bytes:
    """All that a frame holds, to the last bit."""
    return frame.to_csv(float_format="%.17g").encode()


# Fits and bootstraps.


def fits_read(path: Path) -> bytes:
    fits = hlm.FitBatch.read_parquet(path)
    return values(fits.tidy("normal")) + values(fits.varcorr.sd.assign(of=str(fits.model)))


def bootstrap_read(path: Path) -> bytes:
    boot = hlm.Bootstrap.read_parquet(path)
    return values(boot.summary()) + values(boot.replicates)


def design() -> pd.DataFrame:
    made = hlm.units(8, within={"x": [0, 1, 2, 3]}, seed=1).frame()
    truth = hlm.Truth.of([1, 0.5], sd=[0.4, 0.3], sigma=1.0)
    drawn = hlm.mechanism(FORMULA, made, truth).draw(0, 1, 1, rows=True)
    return drawn.frame().drop(columns="replicate", errors="ignore")


def parquet_files(folder: Path) -> dict[str, tuple[Path, Reader]]:
    """A file of fits and one of a bootstrap, with their readers."""
    data = design()
    fit = hlm.fit(FORMULA, data)
    paths = {kind: folder / f"{kind}.parquet" for kind in ("fits", "bootstrap")}
    many = hlm.fit_many(FORMULA, data, responses=fit.simulate(40, seed=1), progress=False)
    many.to_parquet(paths["fits"])
    hlm.bootstrap(fit, 40, seed=1, progress=False).to_parquet(paths["bootstrap"])
    return {
        "fits": (paths["fits"], fits_read),
        "bootstrap": (paths["bootstrap"], bootstrap_read),
    }


# Tables in text.


def table_read(path: Path) -> bytes:
    return values(read_table(path))


# Study folders.


def mechanism(effect: float) -> Any:
    truth = hlm.Truth.of([1, effect], sd=[0.4, 0.3], sigma=1.0)
    data = hlm.units(8, within={"x": [0, 1, 2, 3]}, seed=1).frame()
    return hlm.mechanism(FORMULA, data, truth)


def studied(out: Path, seed: int = 3, resume: bool = False) -> bytes:
    """The numbers of a small study in a folder, of which nothing has to be compiled."""
    methods = [hlm.Method("two", estimator="two_stage")]
    options: dict[str, Any] = {"n": 12, "chunk": 4, "progress": False, "resume": resume}
    made = hlm.study({"effect": [0.0, 0.5]}, mechanism, methods, seed=seed, out=out, **options)
    return values(made.estimates)


def study_read(out: Path) -> bytes:
    return values(hlm.read_study(out).estimates)


def study_resumed(out: Path) -> bytes:
    return studied(out, resume=True)


def manifest_edits(text: str) -> Iterator[tuple[str, bytes]]:
    """A manifest with every entry changed, removed, of another type, and NaN."""
    entries = json.loads(text)
    for key, value in entries.items():
        for damage, new in (("edited", other(value)), ("another type", "x"), ("NaN", float("nan"))):
            yield f"entry {damage}", json.dumps({**entries, key: new}, indent=1).encode()
        rest = {name: entries[name] for name in entries if name != key}
        yield "entry removed", json.dumps(rest, indent=1).encode()


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, dict):
        name = next(iter(value))
        return {**value, name: [value[name]]}
    return value[1:]


def study_tries(folder: Path, foreign: Path, tries: int, rng: random.Random) -> Iterator[Try]:
    """Every kind of damage to a study in a folder, beside another study."""
    manifest, chunks = folder / "manifest.json", sorted((folder / "estimates").iterdir())
    for kind, paths in (("manifest", [manifest]), ("chunk", chunks)):
        for damage, harm in BYTES.items():
            for _ in range(tries):
                path = rng.choice(paths)
                yield Try(damage, kind, path, harm(path.read_bytes(), rng))
        yield Try("removed", kind, rng.choice(paths), None)
    for damage, contents in manifest_edits(manifest.read_text(encoding="utf-8")):
        yield Try(damage, "manifest", manifest, contents)
    for path in chunks:
        another = rng.choice([one for one in chunks if one != path])
        yield Try("another chunk's file", "chunk", path, another.read_bytes())
        strange = foreign / "estimates" / path.name
        yield Try("chunk of another seed", "chunk", path, strange.read_bytes())
        copy = path.with_name("00009-000000000-000000004.parquet")
        yield Try("copy under another name", "chunk", copy, path.read_bytes())


# All of it.


def damaged_study(folder: Path, tries: int, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Damage and outcome of every try on a study, read and gone on with."""
    whole, foreign, copy = folder / "study", folder / "foreign", folder / "copy"
    expected = studied(whole)
    studied(foreign, seed=4)
    for one in study_tries(whole, foreign, tries, rng):
        for door, read in (("read", study_read), ("resumed", study_resumed)):
            shutil.copytree(whole, copy)
            at = copy / one.path.relative_to(whole)
            at.unlink(missing_ok=True)
            if one.contents is not None:
                at.write_bytes(one.contents)
            # A chunk that is not there is one that is not finished: what is read says how many are.
            unfinished = one.contents is None and one.kind == "chunk" and door == "read"
            found = "same numbers" if unfinished else outcome(read, copy, expected)
            yield f"study {one.kind}, {door}", one.damage, found
            shutil.rmtree(copy)


def damaged_files(
    files: dict[str, tuple[Path, Reader]], harms: dict[str, Harm], tries: int, rng: random.Random
) -> Iterator[tuple[str, str, str]]:
    """Damage and outcome of every try on single files."""
    for kind, (path, read) in files.items():
        whole, expected = path.read_bytes(), read(path)
        for damage, harm in harms.items():
            for _ in range(tries):
                path.write_bytes(harm(whole, rng))
                yield kind, damage, outcome(read, path, expected)
        path.write_bytes(whole)


def swapped(files: dict[str, tuple[Path, Reader]]) -> Iterator[tuple[str, str, str]]:
    """Every file under the name of another, but for a bootstrap's, which holds fits as well."""
    for kind, (path, read) in files.items():
        whole, expected = path.read_bytes(), read(path)
        for other_kind, (another, _) in files.items():
            if other_kind not in (kind, "bootstrap"):
                path.write_bytes(another.read_bytes())
                yield kind, f"{other_kind} instead", outcome(read, path, expected)
                path.write_bytes(whole)


def text_files(folder: Path) -> Iterator[tuple[dict[str, tuple[Path, Reader]], dict[str, Harm]]]:
    """Tables in text, and the damage that can be found in each."""
    plain, packed, toml = (folder / name for name in ("d.csv", "d.csv.gz", "s.toml"))
    design().to_csv(plain, index=False)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    toml.write_text(STUDY, encoding="utf-8")
    yield {"csv": (plain, table_read)}, TEXT
    yield {"csv.gz": (packed, table_read)}, BYTES
    yield {"toml": (toml, study_file_read)}, TOML


STUDY = """formula = "y ~ x + (1 + x | unit)"
n = 20
[design]
units = 8
within = { x = [0, 1, 2, 3] }
[truth]
beta = [1, 0.5]
sd = [0.4, 0.3]
sigma = 1.0
"""


def study_file_read(path: Path) -> bytes:
    return repr(read_study_file(path)).encode()


def campaign(folder: Path, tries: int, seed: int) -> pd.DataFrame:
    """Kinds of file and damage with the number of tries by outcome."""
    rng, counts = random.Random(seed), Counter[tuple[str, str, str]]()
    counts.update(damaged_study(folder, max(1, tries // 10), rng))
    files = parquet_files(folder)
    counts.update(damaged_files(files, BYTES, tries, rng))
    counts.update(swapped(files))
    for texts, harms in text_files(folder):
        counts.update(damaged_files(texts, harms, tries, rng))
    table = pd.Series(counts).unstack(fill_value=0).reindex(columns=OUTCOMES, fill_value=0)
    table.insert(0, "tries", table.sum(axis=1))
    return table.rename_axis(["file", "damage"]).reset_index()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.validation.damage", description=__doc__)
    parser.add_argument("-n", type=int, default=300, help="tries of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=machine.RESULTS, help="folder of the CSV file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = campaign(Path(folder), options.n, options.seed)
    print(table.to_string(index=False))
    totals = table[["tries", *OUTCOMES]].sum()
    print(totals.to_string())
    path = machine.results_path(options.out, machine.describe(), "damage")
    table.to_csv(path, index=False)
    print(f"written to {path}")
    return int(totals[[*WRONG]].sum() > 0)


if __name__ == "__main__":
    sys.exit(main())
