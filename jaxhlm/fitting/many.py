"""Fitting many data sets at once: where they come from, their estimates, and what failed."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, overload

import numpy as np
import pandas as pd

from jaxhlm.core.arguments import check_flag
from jaxhlm.core.devices import Devices
from jaxhlm.core.notation import Floats, Precision, ResponsesIn
from jaxhlm.estimation.executors import Workers, Workload, check_writers, workers_of
from jaxhlm.estimation.model import Model
from jaxhlm.estimation.pipeline import gather
from jaxhlm.estimation.progress import progress_report
from jaxhlm.fitting.failures import Failures
from jaxhlm.fitting.places import fitter, fitting_devices
from jaxhlm.fitting.storing import check_storing, store_source
from jaxhlm.language.opaque import allowing
from jaxhlm.optimise.loop import MAX_ITER, TOL
from jaxhlm.optimise.options import Options
from jaxhlm.results.batch import FitBatch
from jaxhlm.results.record import FitRecord
from jaxhlm.results.stored import StoredFits
from jaxhlm.sources.containers import GivenResponses
from jaxhlm.sources.given import GivenData, fit_input
from jaxhlm.sources.sources import Source

if TYPE_CHECKING:
    import optax

__all__ = ["fit_many", "fit_source"]


@overload
def fit_many(
    formula: str,
    data: GivenData | None = ...,
    responses: GivenResponses | None = ...,
    *,
    responses_in: ResponsesIn = ...,
    layer: str | None = ...,
    by: str | None = ...,
    reml: bool = ...,
    weights: str | pd.Series | pd.DataFrame | Floats | None = ...,
    unsafe_formula: bool = ...,
    optimizer: optax.GradientTransformation | None = ...,
    tol: float = ...,
    max_iter: int = ...,
    progress: bool | None = ...,
    devices: Devices = ...,
    executor: Workload | None = ...,
    precision: Precision = ...,
    out: None = None,
    resume: bool = ...,
    workers_write: bool = ...,
) -> FitBatch: ...


@overload
def fit_many(
    formula: str,
    data: GivenData | None = ...,
    responses: GivenResponses | None = ...,
    *,
    responses_in: ResponsesIn = ...,
    layer: str | None = ...,
    by: str | None = ...,
    reml: bool = ...,
    weights: str | pd.Series | pd.DataFrame | Floats | None = ...,
    unsafe_formula: bool = ...,
    optimizer: optax.GradientTransformation | None = ...,
    tol: float = ...,
    max_iter: int = ...,
    progress: bool | None = ...,
    devices: Devices = ...,
    executor: Workload | None = ...,
    precision: Precision = ...,
    out: str | PathLike[str],
    resume: bool = ...,
    workers_write: bool = ...,
) -> StoredFits: ...


# A data set of extreme size gets a status, and no warning stops its neighbours.
@np.errstate(all="ignore")
def fit_many(
    formula: str,
    data: GivenData | None = None,
    responses: GivenResponses | None = None,
    *,
    responses_in: ResponsesIn = "columns",
    layer: str | None = None,
    by: str | None = None,
    reml: bool = True,
    weights: str | pd.Series | pd.DataFrame | Floats | None = None,
    unsafe_formula: bool = False,
    optimizer: optax.GradientTransformation | None = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    progress: bool | None = None,
    devices: Devices = None,
    precision: Precision = "float64",
    executor: Workload | None = None,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    workers_write: bool = False,
) -> FitBatch | StoredFits:
    """Fit many data sets at once: many responses on one design, or replicates in a long frame.

    Every data set gets exactly the fit that ``fit`` would give it. One that cannot be fitted gets
    a status code and NaN estimates, and its neighbours are untouched. Several processes must be
    started by "spawn" or "forkserver": a forked child of a process that has used JAX is refused.

    Args:
        formula: as for ``fit``. With ``responses`` its left side may be left out.
        data: the table of the design, as for ``fit``; with ``by``, all replicates one below the
            other. It may be left out where AnnData brings its own, ``obs``. With ``by`` it may also
            be the path of a .parquet file or of a folder of them (names of folders such as
            ``rep=17`` are a column), a pyarrow ``Dataset`` or a Dask DataFrame: read once to see
            what there is, and then run by run, so that memory is bounded by a run and a row group,
            or a partition. Rows of a data set may lie in several of those. Where they lie all over,
            the columns that are used are read at once if memory holds them, and else many times,
            which a warning says: sort such a set by its replicates first. Numbers are those of the
            same frame in memory.
        responses: (n, B), one column per response: an array, a table (of pandas, or of polars,
            pyarrow and whatever narwhals reads), a labelled array of xarray, a sparse matrix of
            SciPy, AnnData, the path of a .npy, .parquet, .h5ad or .zarr file, another library's
            array that has ``__dlpack__`` (torch, CuPy), or one in pieces on a disk (zarr, h5py,
            dask). Files, pieces, tables and sparse matrices are read, or made dense, as they are
            fitted (those of an .h5ad file are read whole if they are sparse). A response with
            missing values (NaN, null, masked) is fitted on its own complete rows; an integer
            beyond 2⁵³ that double precision cannot hold counts as infinite. Names of samples (an
            index, coordinates, ``obs_names``) are matched with the index of ``data``, in whatever
            order; what has no names, or is numbered by default, is matched by position. They are
            not copied: what is computed from rows later, such as ``fits[i]``, is about what they
            hold then. A ``jax.Array`` stays where it is; only responses that are not fitted there,
            or are looked at later, are brought from its device.
        responses_in: "rows" where the responses are rows, with a column for every sample, as genes
            × samples are. Then names of columns are those of the samples, and those of the
            responses are the index, or the one column of text of a table that has no index.
        layer: the layer of AnnData that holds the responses, by default its ``X``.
        by: column of ``data`` that tells the replicates apart; they may differ in their rows,
            units and covariates. Factor levels are taken from all of ``data``. A data set
            without a row of one of them lacks that coefficient, which is NaN; without a row of the
            first level, which the others are measured against, it is ``RANK_DEFICIENT``; without
            one of a factor left of a bar, ``NOT_IDENTIFIED``; where a value is infinite, or a
            transform makes no finite number of it (the log of 0), ``NOT_FINITE``. Means, scales and
            knots of terms such as ``center(x)`` every data set learns by itself.
        weights: prior weights, as for ``fit``; with ``responses`` also of the shape (n, B), for
            every response its own (``voom``'s precision weights), held in anything that
            ``responses`` may be (a file as a ``pathlib.Path``) and in the same layout: matched by
            the names of ``responses``, or lying as they do, and no more copied than these. A
            response is fitted without rows whose weight is zero or missing.
        reml, unsafe_formula, optimizer, tol, max_iter: as for ``fit``.
        progress: show a progress bar; by default in a terminal and in a notebook.
        devices: where the responses are fitted: a number of JAX's devices, or devices such as
            ``jax.devices("gpu")``. By default 100,000 data sets or more, whose fits are worth
            compiling, are fitted on those of JAX's default backend, unless it is the CPU; and all
            others on the cores, by a faster way of their own. What ``by`` tells apart, and what
            has (n, B) weights, is fitted on the cores only: with ``devices`` it is refused.
        precision: "float32" for ``devices`` on which double precision is slow: they search in
            single precision. Statistics of the data, the steps that end the search and decide it
            (two or three evaluations), criteria and estimates are in double precision; what is not
            decided then is fitted anew on the cores. So the fits are those of "float64": criteria
            agreed to 1e-13, relative, and β to 1e-8 standard errors, on all workloads of
            ``bench.accelerator`` and on data made to be hard. Balanced designs are fitted in closed
            form and searched by neither.
        out: folder that the estimates are written to, one Parquet file for each chunk of fits and a
            manifest that says what they are; memory is then bounded by the chunk, whatever the
            number of fits. Those of the cores are the ones in memory, to the bit.
        resume: go on with what ``out`` holds of this very run: after a kill, or where a file was
            damaged, which is set aside and made anew. On ``devices`` or the cores, whichever began.
        executor: any ``concurrent.futures.Executor``, or a client of Dask, whose workers fit them;
            processes need a start method other than "fork". Responses in memory are sent to them;
            of those in a .npy file only the path is, which workers must see. ``devices`` is then
            a number of those that every worker has.
        workers_write: whether workers write the files of ``out``, on a file system that all share,
            or return the estimates and this process writes them.

    Returns:
        A ``FitBatch``, or with ``out`` a ``StoredFits``, which ``jaxhlm.read_fits`` opens again;
        ``print`` it for counts and a summary.

    Raises:
        FileError: a file of ``data`` or ``responses`` cannot be read, or is not what it was.
        OptionError: neither or both of ``responses`` and ``by`` were given.
        ResponseShapeError: ``responses`` have other samples than ``data``, or another number.
        OptionError: ``devices`` that are not there, with ``by`` or with an optimiser of your own;
            ``precision`` of another kind, or "float32" where the cores fit.
        FolderError: ``out`` holds something else, or another run, or this one and ``resume`` is
            False, or another process writes to it; nothing is overwritten.
        DeviceError: a device was lost before anything was finished, or with ``out``, which keeps
            what was; else what was finished is returned and a warning says so, as at a Ctrl-C.
        ExecutorError: ``executor`` is shut down, or has lost workers (Dask replaces those) before
            anything was finished; later that is returned, or kept in ``out``, as at a Ctrl-C.
        ForkedProcessError: in a forked child, as above.
        JaxhlmError: as for ``fit``, where the design as a whole is at fault.

    Example:
        >>> import jaxhlm as hlm
        >>> data = hlm.load_dataset("sleepstudy")
        >>> truth = hlm.fit("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> Y = truth.simulate(100, seed=1)
        >>> fits = hlm.fit_many("~ Days + (1 + Days | Subject)", data, responses=Y)
        >>> len(fits), int(fits.ok.sum())
        (100, 100)
    """
    check_flag("unsafe_formula", unsafe_formula)
    check_storing(out, resume)
    check_writers(workers_write, executor, out)
    workers = workers_of(executor)
    with allowing(unsafe_formula):
        given = fit_input(formula, data, responses, by, weights, reml, responses_in, layer)
    options = Options(reml, given.model.blocks, optimizer, tol, max_iter, precision)
    if out is not None:
        to = out, resume, devices, workers, workers_write
        return store_source(given.source, given.index, given.model, options, progress, *to)
    return fit_source(*given, options, progress, devices, workers)


@np.errstate(all="ignore")
def fit_source(
    source: Source,
    index: pd.Index,
    model: Model,
    options: Options,
    progress: bool | None,
    devices: Devices = None,
    workers: Workers | None = None,
) -> FitBatch:
    """Fit every lane of a source; where it ends early, what was finished is kept.

    Args:
        source: where the rows are.
        index: (B,) labels of the lanes.
        model: the labels of the fits.
        options: what to optimise.
        progress: show a progress bar; None for one in a terminal or a notebook.
        devices: as for ``fit_many``.
        workers: who fits them, if not this process.
    """
    fitted = fitter(source, options, devices, workers)
    with progress_report(len(index), progress) as report:
        found = gather(fitted(source.runs()), len(index), report, partial=True)
    estimates, nobs, ngroups = found
    done = len(nobs)
    lane_index, failures = np.arange(done), Failures(model.xnames)
    used = fitting_devices(source, options, devices, workers)
    sizes = nobs, ngroups, options, lane_index
    record = FitRecord(model, estimates, index[:done], *sizes, source, used)
    failures.add(estimates)
    failures.warn()
    return FitBatch(record)
