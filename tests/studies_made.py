"""The small study that the tests of studies, their folders and their locks run, in NumPy only."""

import jaxhlm as hlm

DATA = hlm.load_dataset("article").query("unit <= 8 and x < 0.5").reset_index(drop=True)
# With rows of their own and chunks this small everything runs in NumPy: nothing is compiled.
METHODS = [hlm.Method("t"), hlm.Method("two", estimator="two_stage")]
GRID = {"effect": [0.0, 0.3], "sigma": [0.5, 1.0]}
N, CHUNK = 48, 8


def mechanism(effect, sigma):
    truth = hlm.Truth.of([1, 3, -0.15, effect], sd=[0.2, 0.5], corr=0.9, sigma=sigma)
    return hlm.mechanism("y ~ x * a + (1 + x | unit)", DATA, truth)


def run(**options):
    return hlm.study(GRID, mechanism, METHODS, **{"n": N, "seed": 3, "chunk": CHUNK, **options})


def progress_of(out):
    """Number of chunks, or −1 before there is a folder."""
    return len(list(out.glob("estimates/*.parquet"))) if out.exists() else -1


def listing(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


TOML = """\
formula = "y ~ x * a + (1 + x | unit)"
n = 16
seed = 1
chunk = 8

[design]
data = "design.csv"
units = 6

[truth]
beta = { "(Intercept)" = 1, x = 3, a = -0.15, "x:a" = 0.3 }
sd = [0.2, 0.5]
corr = 0.9
sigma = 0.75

[conditions]
units = [6, 8]
"beta[x:a]" = [0, 0.3]

[[methods]]
name = "t"

[[methods]]
name = "two"
estimator = "two_stage"
"""
