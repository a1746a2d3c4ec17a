"""The same seed gives the same numbers on every processor: BLAS kernels and numbers of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_numbers import CHUNKS, resumed

import tolerances as tol
from jaxhlm.linalg.factors import orthonormal_basis, principal_axes, root_of_sum, semidefinite_root
from places import TESTS

SCRIPT = TESTS / "library" / "kernel_numbers.py"
CPU = Path("/proc/cpuinfo")
# A processor without the instructions of a kernel ends the process.
WIDEST = "SkylakeX" if CPU.exists() and "avx512f" in CPU.read_text() else "Nehalem"
# Kernel, threads, and how many chunks of the study are finished when the process ends.
RUNS = (("Haswell", 2, 1), ("Sandybridge", 1, 2), (WIDEST, 2, CHUNKS))


@pytest.fixture(scope="module")
def by_kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    return [_numbers(folder / "study", *run) for run in RUNS]


def _numbers(study, kernel, threads, chunks):
    own = {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, str(SCRIPT), str(study), str(chunks)]
    done = subprocess.run(
        command, env=os.environ | own, capture_output=True, text=True, timeout=300, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_kernel(by_kernel):
    if len({tuple(run["blas"]) for run in by_kernel}) < 3:
        pytest.skip("this BLAS does not take another processor's kernels")
    first, *others = [run["of"] for run in by_kernel]
    for run in others:
        for name, numbers in first.items():
            if name != "study":
                size = np.nanmax(np.abs(numbers))
                np.testing.assert_allclose(
                    run[name], numbers, rtol=0, atol=tol.KERNEL * size, err_msg=name
                )


@pytest.mark.slow
def test_counts_do_not_depend_on_the_kernel(by_kernel):
    assert len({run["of"]["resampled: power"][0] for run in by_kernel}) == 1


@pytest.mark.slow
def test_a_study_begun_under_one_kernel_goes_on_under_another(by_kernel, tmp_path):
    mixed = np.array(by_kernel[-1]["of"]["study"])
    undisturbed = resumed(tmp_path / "study", CHUNKS).to_numpy(float).ravel()
    assert len(mixed) == len(undisturbed) > 0
    np.testing.assert_allclose(mixed, undisturbed, rtol=tol.KERNEL, atol=tol.KERNEL)


@pytest.mark.parametrize("seed", range(5))
def test_a_basis_does_not_move_with_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    # Columns of equal length, one that depends on others, one of rounding error.
    M = rng.choice([-1.0, 1.0], (12, 4))
    M = np.column_stack([M, M[:, 0] + M[:, 1], 1e-15 * rng.normal(size=12)])
    basis = orthonormal_basis(M, 1e-10)
    assert np.abs(basis @ basis.T - np.eye(len(basis))).max() < tol.KERNEL
    assert np.abs(basis.T @ (basis @ M) - M).max() < tol.KERNEL
    for _ in range(20):
        moved = orthonormal_basis(M * (1.0 + 1e-15 * rng.normal(size=M.shape)), 1e-10)
        assert np.abs(moved - basis).max() < tol.KERNEL


@pytest.mark.parametrize("values", [[1, 1, 1, 1], [0, 0, 2, 2], [1, 2, 2, 3], [1, 2, 3, 4]])
def test_axes_do_not_move_with_the_last_bit(values):
    rng = np.random.default_rng(7)
    Q = np.linalg.qr(rng.normal(size=(30, 4, 4))).Q
    A = Q @ (np.array(values, dtype=float)[:, None] * Q.mT)
    value, axes = principal_axes(A)
    assert np.abs(value - values).max() < tol.KERNEL
    assert np.abs((axes * value[:, None]) @ axes.mT - A).max() < tol.KERNEL
    noise = 1e-15 * rng.normal(size=A.shape)
    assert np.abs(principal_axes(A + noise + noise.mT)[1] - axes).max() < tol.KERNEL


def test_roots_do_not_move_with_the_last_bit():
    rng = np.random.default_rng(3)
    R = rng.normal(size=(3, 2))
    A = R @ R.T  # of rank 2
    L = semidefinite_root(A)
    assert np.abs(L @ L.T - A).max() < tol.KERNEL
    noise = 1e-16 * rng.normal(size=(3, 3))
    assert np.abs(semidefinite_root(A + noise + noise.T) - L).max() < tol.KERNEL


def test_the_root_of_a_sum_keeps_the_digits_of_the_smaller_part():
    both = root_of_sum(1e-9 * np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]]))
    # [[1 + s, 1], [1, 1 + s]] with s = 1e-18: the second pivot is √(2s) to first order.
    assert abs(both[1, 1] / np.sqrt(2e-18) - 1.0) < tol.CANCELLED
