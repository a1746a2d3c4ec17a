"""Fits in processes of every kind, in threads and in coroutines; prints what came of them."""

import asyncio
import json
import multiprocessing as mp
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

import jaxhlm as hlm

FORMULA = "Reaction ~ Days + (1 | Subject)"
WAIT = 100


def responses():
    """Enough of them that compiled code is used."""
    y = hlm.load_dataset("sleepstudy").Reaction.to_numpy()
    return y[:, None] + np.random.default_rng(1).normal(size=(len(y), 160))


def many(_=0):
    """The sum of many fits, or what was raised."""
    try:
        fits = hlm.fit_many(FORMULA, hlm.load_dataset("sleepstudy"), responses(), progress=False)
    except hlm.JaxhlmError as error:
        return f"{type(error).__name__}: {error}"
    return float(fits.fixef.to_numpy().sum())


def one(_=0):
    """One fit, which needs no JAX."""
    return float(hlm.fit(FORMULA, hlm.load_dataset("sleepstudy")).fixef.sum())


def in_pool(kind, work):
    """``work`` in a process."""
    with ProcessPoolExecutor(1, mp.get_context(kind)) as pool:
        return pool.submit(work).result(timeout=WAIT)


async def in_coroutines():
    """``many`` in the threads of an event loop."""
    return await asyncio.gather(*(asyncio.to_thread(many) for _ in range(3)))


def main():
    """Print everything."""
    found = {"forked before": in_pool("fork", many), "here": many()}
    for kind in ("fork", "forkserver", "spawn"):
        found[kind] = in_pool(kind, many)
    found["one, forked"] = in_pool("fork", one)
    with ThreadPoolExecutor(4) as pool:
        found["threads"] = list(pool.map(many, range(4)))
    found["coroutines"] = asyncio.run(in_coroutines())
    json.dump({"found": found, "one": one()}, sys.stdout)


if __name__ == "__main__":
    main()
