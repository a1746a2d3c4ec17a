"""Hierarchical linear models, fitted exactly, for very many data sets at once.

``fit`` reads an lme4 formula and a DataFrame and returns a ``Fit``, whose printed form and
accessors (``fixef``, ``ranef``, ``varcorr``, ``tidy`` …) are those that lmer's users know.
``fit_many`` does the same for thousands of responses on one design, or of replicates in a long
frame, and returns a ``FitBatch``, in which a data set that cannot be fitted is a status code and
not an exception. Its ``test`` and ``top`` test named contrasts of all fits, adjusted for their
number, and ``max_t`` bounds the chance of any false discovery among them; ``voom_weights`` makes
responses and weights of counts. With ``out=`` it writes more fits than memory holds to a folder,
which ``read_fits`` opens.
``bootstrap`` resamples one fit (parametric, residual, cases, wild) and ``bootstrap_lrt`` tests one
model against a smaller one, by the same batched fits.
``lm_list`` fits every unit by itself, to set against the BLUPs.
``fit.anova``, ``fit.rand_test`` and ``compare`` set models against each other, and ``fit.confint``
gives intervals; a batch does the same for all of its fits.

What if? ``mechanism`` puts a generating model, a design, a ``Truth`` and ``violations`` of its
assumptions together and draws data sets to be fitted; ``units`` builds a design from a few words,
and ``extend`` lengthens or trims one that is there. ``power``, ``power_curve`` and ``solve_power``
say how often a test finds an effect, and what that takes; ``study`` compares ``Method``s over many
conditions, can be interrupted and gone on with, and ``measures`` says how well they did, every
number with its Monte-Carlo standard error; ``nsim`` and ``stopping`` say how many replicates that
takes. ``jaxhlm.plot`` draws them, and one fit's units, with matplotlib.

Under them lies the likelihood itself, pure JAX that can be jitted, vmapped and differentiated:
``suffstats`` reduces rows to sufficient statistics, ``deviance`` and ``loglik`` evaluate them,
``minimise`` finds the minimum and ``fit_statistics`` everything that a fit estimates. Read
``jaxhlm/likelihood/deviance.py`` first, the mathematics on one screen.
``jaxhlm.reference`` says it all again in plain NumPy.

Importing the package touches no device and changes no setting of JAX: float64 is switched on inside
``fit`` and its relatives only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jaxhlm.core.status import Status as Status
from jaxhlm.datasets import load_dataset as load_dataset
from jaxhlm.design.design import design as design
from jaxhlm.errors import JaxhlmError as JaxhlmError
from jaxhlm.errors import JaxhlmWarning as JaxhlmWarning
from jaxhlm.fitting.fit import fit as fit
from jaxhlm.likelihood.covariance import lambda_matrix as lambda_matrix
from jaxhlm.likelihood.criterion import deviance as deviance
from jaxhlm.likelihood.deviance import loglik as loglik
from jaxhlm.likelihood.suffstats import suffstats as suffstats
from jaxhlm.results.compare import compare as compare
from jaxhlm.results.fit import Fit as Fit

if TYPE_CHECKING:
    from jaxhlm import plot as plot
    from jaxhlm import violations as violations
    from jaxhlm.estimation.from_statistics import fit_statistics as fit_statistics
    from jaxhlm.fitting.bootstrap import Bootstrap as Bootstrap
    from jaxhlm.fitting.bootstrap import bootstrap as bootstrap
    from jaxhlm.fitting.bootstrap_lrt import BootstrapLRT as BootstrapLRT
    from jaxhlm.fitting.bootstrap_lrt import bootstrap_lrt as bootstrap_lrt
    from jaxhlm.fitting.many import fit_many as fit_many
    from jaxhlm.fitting.max_t import MaxT as MaxT
    from jaxhlm.fitting.max_t import max_t as max_t
    from jaxhlm.inference.lmlist import lm_list as lm_list
    from jaxhlm.optimise.minimise import minimise as minimise
    from jaxhlm.optimise.newton import newton as newton
    from jaxhlm.results.batch import FitBatch as FitBatch
    from jaxhlm.results.model_table import table as table
    from jaxhlm.results.stored import StoredFits as StoredFits
    from jaxhlm.results.stored import read_fits as read_fits
    from jaxhlm.sources.voom import voom_weights as voom_weights
    from jaxhlm.studies.builder import UnitDesign as UnitDesign
    from jaxhlm.studies.builder import units as units
    from jaxhlm.studies.drawn import Drawn as Drawn
    from jaxhlm.studies.effect_sizes import effect_sizes as effect_sizes
    from jaxhlm.studies.extend import extend as extend
    from jaxhlm.studies.measures import measures as measures
    from jaxhlm.studies.measures_table import MeasuresTable as MeasuresTable
    from jaxhlm.studies.mechanism import Mechanism as Mechanism
    from jaxhlm.studies.mechanism import mechanism as mechanism
    from jaxhlm.studies.method import Method as Method
    from jaxhlm.studies.planning import nsim as nsim
    from jaxhlm.studies.planning import stopping as stopping
    from jaxhlm.studies.power import power as power
    from jaxhlm.studies.power_curve import power_curve as power_curve
    from jaxhlm.studies.power_curve import solve_power as solve_power
    from jaxhlm.studies.simulate import simulate as simulate
    from jaxhlm.studies.study import Study as Study
    from jaxhlm.studies.study import read_study as read_study
    from jaxhlm.studies.study import study as study
    from jaxhlm.studies.truth import Truth as Truth
    from jaxhlm.studies.uncertainty import TruthDistribution as TruthDistribution

__version__ = "0.1.0"
__all__ = [
    "Bootstrap",
    "BootstrapLRT",
    "Drawn",
    "Fit",
    "FitBatch",
    "JaxhlmError",
    "JaxhlmWarning",
    "MaxT",
    "MeasuresTable",
    "Mechanism",
    "Method",
    "Status",
    "StoredFits",
    "Study",
    "Truth",
    "TruthDistribution",
    "UnitDesign",
    "bootstrap",
    "bootstrap_lrt",
    "compare",
    "design",
    "deviance",
    "effect_sizes",
    "extend",
    "fit",
    "fit_many",
    "fit_statistics",
    "lambda_matrix",
    "lm_list",
    "load_dataset",
    "loglik",
    "max_t",
    "measures",
    "mechanism",
    "minimise",
    "newton",
    "nsim",
    "power",
    "power_curve",
    "read_fits",
    "read_study",
    "simulate",
    "solve_power",
    "stopping",
    "study",
    "suffstats",
    "table",
    "units",
    "violations",
    "voom_weights",
]

# A small fit takes less time than importing what it does not need (optax, matplotlib, everything
# about studies), so that is imported when asked for. No module of this very folder has the name of
# what is imported so: importing the module would set that name to it.
_WHEN_ASKED_FOR = {
    "fitting.many": ("fit_many",),
    "fitting.max_t": ("MaxT", "max_t"),
    "results.batch": ("FitBatch",),
    "results.model_table": ("table",),
    "results.stored": ("StoredFits", "read_fits"),
    "sources.voom": ("voom_weights",),
    "studies.simulate": ("simulate",),
    "inference.lmlist": ("lm_list",),
    "studies.truth": ("Truth",),
    "fitting.bootstrap_lrt": ("BootstrapLRT", "bootstrap_lrt"),
    "fitting.bootstrap": ("Bootstrap", "bootstrap"),
    "studies.builder": ("UnitDesign", "units"),
    "studies.power_curve": ("power_curve", "solve_power"),
    "studies.effect_sizes": ("effect_sizes",),
    "studies.extend": ("extend",),
    "studies.measures": ("measures",),
    "studies.measures_table": ("MeasuresTable",),
    "studies.drawn": ("Drawn",),
    "studies.mechanism": ("Mechanism", "mechanism"),
    "studies.method": ("Method",),
    "estimation.from_statistics": ("fit_statistics",),
    "optimise.minimise": ("minimise",),
    "optimise.newton": ("newton",),
    "studies.planning": ("nsim", "stopping"),
    "studies.power": ("power",),
    "studies.study": ("Study", "read_study", "study"),
    "studies.uncertainty": ("TruthDistribution",),
}
_MODULE_OF = {name: module for module, names in _WHEN_ASKED_FOR.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is imported when asked for."""
    if name in ("plot", "violations"):
        return import_module(f"jaxhlm.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'jaxhlm' has no attribute {name!r}")
    value = getattr(import_module(f"jaxhlm.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported yet or not."""
    return sorted({*__all__, "plot"})
