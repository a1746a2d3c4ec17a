"""Hierarchical linear models, fitted exactly, for very many data sets at once.

``fit`` reads an lme4 formula and a DataFrame and returns a ``Fit``, whose printed form and
accessors (``fixef``, ``ranef``, ``varcorr``, ``tidy`` …) are those that lmer's users know.
``fit_many`` does the same for thousands of responses on one design, or of replicates in a long
frame, and returns a ``FitBatch``, in which a data set that cannot be fitted is a status code and
not an exception.
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
``suffstats`` reduces rows to sufficient statistics, ``deviance`` and ``loglik`` evaluate them, and
``minimise`` finds the minimum. Read ``jaxhlm/deviance.py`` first, the mathematics on one screen.
``jaxhlm.reference`` says it all again in plain NumPy.

Importing the package touches no device and changes no setting of JAX: float64 is switched on inside
``fit`` and its relatives only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jaxhlm import violations as violations
from jaxhlm.batch import FitBatch as FitBatch
from jaxhlm.bootstrap import Bootstrap as Bootstrap
from jaxhlm.bootstrap import bootstrap as bootstrap
from jaxhlm.bootstrap_lrt import BootstrapLRT as BootstrapLRT
from jaxhlm.bootstrap_lrt import bootstrap_lrt as bootstrap_lrt
from jaxhlm.builder import UnitDesign as UnitDesign
from jaxhlm.builder import units as units
from jaxhlm.compared import compare as compare
from jaxhlm.covariance import lambda_matrix as lambda_matrix
from jaxhlm.curves import power_curve as power_curve
from jaxhlm.curves import solve_power as solve_power
from jaxhlm.datasets import load_dataset as load_dataset
from jaxhlm.deviance import deviance as deviance
from jaxhlm.deviance import loglik as loglik
from jaxhlm.errors import JaxhlmError as JaxhlmError
from jaxhlm.errors import JaxhlmWarning as JaxhlmWarning
from jaxhlm.extend import extend as extend
from jaxhlm.fit import fit as fit
from jaxhlm.fit import fit_many as fit_many
from jaxhlm.lmlist import lm_list as lm_list
from jaxhlm.measures import measures as measures
from jaxhlm.measures_table import MeasuresTable as MeasuresTable
from jaxhlm.mechanism import Drawn as Drawn
from jaxhlm.mechanism import Mechanism as Mechanism
from jaxhlm.mechanism import mechanism as mechanism
from jaxhlm.methods import Method as Method
from jaxhlm.planning import nsim as nsim
from jaxhlm.planning import stopping as stopping
from jaxhlm.power import power as power
from jaxhlm.results import Fit as Fit
from jaxhlm.simulated import design as design
from jaxhlm.simulated import simulate as simulate
from jaxhlm.status import Status as Status
from jaxhlm.study import Study as Study
from jaxhlm.study import read_study as read_study
from jaxhlm.study import study as study
from jaxhlm.suffstats import suffstats as suffstats
from jaxhlm.truth import Truth as Truth
from jaxhlm.uncertainty import TruthDistribution as TruthDistribution

if TYPE_CHECKING:
    from jaxhlm import plot as plot
    from jaxhlm.minimiser import minimise as minimise
    from jaxhlm.optimise import newton as newton

__version__ = "0.1.0"
__all__ = [
    "Bootstrap",
    "BootstrapLRT",
    "Drawn",
    "Fit",
    "FitBatch",
    "JaxhlmError",
    "JaxhlmWarning",
    "MeasuresTable",
    "Mechanism",
    "Method",
    "Status",
    "Study",
    "Truth",
    "TruthDistribution",
    "UnitDesign",
    "bootstrap",
    "bootstrap_lrt",
    "compare",
    "design",
    "deviance",
    "extend",
    "fit",
    "fit_many",
    "lambda_matrix",
    "lm_list",
    "load_dataset",
    "loglik",
    "measures",
    "mechanism",
    "minimise",
    "newton",
    "nsim",
    "power",
    "power_curve",
    "read_study",
    "simulate",
    "solve_power",
    "stopping",
    "study",
    "suffstats",
    "units",
    "violations",
]

# optax takes longer to import than a small fit takes, and matplotlib is an extra: what needs them
# is imported when asked for.
_NEEDS_OPTAX = {"minimise": "jaxhlm.minimiser", "newton": "jaxhlm.optimise"}


def __getattr__(name: str) -> Any:
    """Import ``minimise``, ``newton`` or ``plot``."""
    if name == "plot":
        return import_module("jaxhlm.plot")
    if name not in _NEEDS_OPTAX:
        raise AttributeError(f"module 'jaxhlm' has no attribute {name!r}")
    value = getattr(import_module(_NEEDS_OPTAX[name]), name)
    globals()[name] = value
    return value
