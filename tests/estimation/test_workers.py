"""An executor that ends while it is at work."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Timer

import numpy as np
import pytest

import jaxhlm as hlm
from jaxhlm.errors import ExecutorError


def test_a_pool_that_another_thread_shuts_down():
    """It cancels the tasks that wait and tells nobody, so that whoever waits for them must look."""
    data, pool, done = hlm.load_dataset("sleepstudy"), ThreadPoolExecutor(1), Event()
    Y = np.random.default_rng(1).normal(size=(len(data), 3))
    pool.submit(done.wait)  # keeps the only worker
    Timer(0.1, pool.shutdown, kwargs={"wait": False, "cancel_futures": True}).start()
    try:
        with pytest.raises(ExecutorError, match="shut down before data sets 0 to 2 was worked on"):
            hlm.fit_many("~ Days + (1 | Subject)", data, Y, executor=pool)
    finally:
        done.set()
