"""No argument of a public function is read as something that it is not.

``WRONG`` lists for every argument what a user could pass that would have a meaning by accident
(text for a flag, a percentage for a share, a float for a count, one column for a matrix …). Each
raises an error of ours that names the argument. ``test_every_argument_is_listed`` finds the
arguments by itself; ``RIGHT`` lists readings that are right though unusual.
"""

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import DATA
from jaxhlm import errors
from jaxhlm.core.arguments import real_array

pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.RowsDroppedWarning")
FORMULA, DESIGN = "Reaction ~ Days + (1 | Subject)", "~ Days + (1 | Subject)"
MASKED = np.ma.array([1.0, 2.0], mask=[False, True])

FLAG = ("False", "ML", 0, 1.0, None, [True])
CLUSTER = (
    "Subject",
    3,
    np.ones((180, 1)),
    np.ones(180),
    [1, 2],
    np.arange(180),
    hlm.load_dataset("sleepstudy")["Subject"].where(np.arange(180) > 3),
    hlm.load_dataset("sleepstudy")["Subject"].iloc[::-1],
)
# Random effects of a model by Subject, as text.
PART = (
    *FLAG,
    "",
    "~",
    "Days",
    "1",
    "Days + (1 | Subject)",
    "(1 | subject)",
    "(x | Subject)",
    "(1 | Subject) + (1 | Days)",
)
SHOWN = ("no", 0, 1.0)
SHARE = (95, "0.95", True, None, np.nan, 0, 1, [0.9], np.array([0.9, 0.95]), 0.9j)
COUNT = (10.0, True, "10", None, -1, np.nan, [10])
SEED = (True, "1", 1.5, [1, 2], jnp.array([1.0, 2.0]), jnp.array(3))
EXECUTOR = ("dask", 2, ThreadPoolExecutor, ["localhost"])
PRECISION = ("float16", 32, np.float32, None)
DEVICES = ("gpu", 0, 99, True, 1.5, [], [0])
WHOLE_SEED = (True, "1", 1.5, -1)
DF = ("KR", "Satterthwaite", 17, ["normal"], True, None)
BY = (3, "day", [], True, ["Days", "Days"])
FAMILIES = {
    "by": BY,
    "contrasts": ("pairs", 3, True, {}, {"a": "1"}, [[np.nan]], [1.0, 2.0]),
    "interaction": ("pairs", 3, [], {"day": "eff"}, ["eff", "eff"]),
    "adjust": ("Tukey", 3, True, ["holm"]),
    "weights": ("flat", None, True, [1.0]),
}
TEST_TYPE = ("3", 3, True, "iii", ["III"])
SCOPE = ("day", 3, [], True, ["Days", "x"])
DROP = ("both", None, True, 1)
WORD = ("Wald", 3, True, ["wald"])
FRAME = ({"Days": [1]}, np.zeros((3, 2)), "sleepstudy", [1, 2], None)
RESPONSE = (
    "Reaction", 3.0, np.ones(179), np.ones((180, 1)), np.ones(180) + 1j, ["1"] * 180,
    np.ones(180, bool), pd.date_range("2020", periods=180), pd.timedelta_range("1h", periods=180),
    pd.Series(np.ones(180), range(1, 181)), np.ma.array(np.arange(180.0), mask=np.arange(180) < 9),
)  # fmt: skip
CONTRAST = ("x", ["Days", 3], [1.0], 1j, None, {"Day": 1}, {"Days": "1"}, MASKED, [np.inf, 0], "")
RHS = ("1", 1j, [1, 2], np.nan, None, pd.Series([1.0]))
FOLDER = (3, None, ["x"])


@cache
def sleep():
    return hlm.load_dataset("sleepstudy")


@cache
def one():
    return hlm.fit(FORMULA, sleep())


@cache
def many():
    Y = one().simulate(3, seed=1)
    return hlm.fit_many(DESIGN, sleep(), Y, progress=False)


@cache
def slopes():
    return hlm.fit("Reaction ~ Days + (1 + Days | Subject)", sleep())


@cache
def truth():
    return hlm.Truth.of([250.0, 10.0], sd=[30.0], sigma=30.0)


@cache
def made():
    return hlm.mechanism(FORMULA, sleep(), truth())


@cache
def boot():
    return hlm.bootstrap(one(), 20, seed=1, progress=False)


@cache
def measured():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {"condition": 0, "replicate": range(20), "method": "REML", "term": "x", "truth": 3.0,
         "estimate": 3 + rng.normal(size=20), "std_error": 1.0, "status": "converged"}
    )  # fmt: skip


def fit(formula=FORMULA, data=None, **options):
    return hlm.fit(formula, sleep() if data is None else data, **options)


def responses(Y=None, **options):
    Y = sleep()[["Reaction"]] if Y is None else Y
    return hlm.fit_many(DESIGN, sleep(), Y, **{"progress": False} | options)


def counted(counts=None, formula=DESIGN, data=None, **options):
    counts = np.arange(1, 541).reshape(180, 3) if counts is None else counts
    return hlm.voom_weights(counts, formula, sleep() if data is None else data, **options)


def reread(path=DATA / "fits_first_format.parquet", **options):
    y = sleep()["Reaction"]
    Y = pd.DataFrame({"Reaction": y, "logged": np.log(y), "constant": 1.0})
    given = {"data": sleep(), "responses": Y} | options
    return hlm.FitBatch.read_parquet(path, **given)


def study(conditions=None, mechanism=None, methods=None, **options):
    conditions = {"size": [1, 2]} if conditions is None else conditions
    mechanism = (lambda size: made()) if mechanism is None else mechanism
    return hlm.study(conditions, mechanism, methods, **{"n": 4, "seed": 1} | options)


def stats(**changed):
    rows = {"y": np.arange(4.0), "X": np.ones((4, 1)), "Z": np.ones((4, 1))}
    return hlm.suffstats(**rows | {"group": np.array([0, 0, 1, 1]), "num_groups": 2} | changed)


def of_stats(**changed):
    return hlm.fit_statistics(**{"stats": stats()} | changed)


def power(test="Days", mechanism=None, **options):
    mechanism = made() if mechanism is None else mechanism
    return hlm.power(mechanism, test, **{"n": 4, "seed": 1, "progress": False} | options)


def curve(values=(5,), along="units", **options):
    return hlm.power_curve(made(), "Days", along, values, **{"n": 4, "progress": False} | options)


def solve(**options):
    return hlm.solve_power(
        made(), "Days", **{"n": 4, "bounds": (5, 6), "progress": False} | options
    )


def of(beta=(1.0,), sd=(1.0,), **options):
    return hlm.Truth.of(beta, sd, **options)


def predict(fit, newdata=None, **options):
    return fit.predict(sleep().head(3) if newdata is None else newdata, **options)


# name: (what is called, {argument: what is wrong with it}).
WRONG = {
    "fit": (fit, {
        "formula": (None, 3, b"y ~ x", ["y ~ x"], sleep()),
        "data": ({"a": [1]}, np.zeros((3, 2)), "x", sleep()["Days"]),
        "reml": FLAG,
        "weights": ("w", 2.0, np.ones((180, 1)), [True] * 180, ["1"] * 180, np.ones(180) + 1j,
                    pd.Series(np.ones(180), range(1, 181)), pd.DataFrame({"w": np.ones(180)}),
                    pd.date_range("2020", periods=180), pd.timedelta_range("1h", periods=180)),
        "optimizer": ("adam", 3, True),
        "tol": ("x", True, None, np.nan, 0.0, -1.0, 1j),
        "max_iter": COUNT, "unsafe_formula": FLAG,
    }),
    "fit_many": (responses, {
        "Y": (sleep()["Reaction"], sleep()["Reaction"].to_numpy(), "Reaction", ["Reaction"],
              np.ones((3, 180)), np.ones((180, 1)) + 1j, np.ones((180, 1), bool),
              np.full((180, 1), "1"), np.zeros((180, 0)), sleep()[["Subject"]],
              sleep()[["Reaction"]].set_axis(range(1, 181)), sleep()[["Reaction"]] > 300,
              np.array(pd.date_range("2020", periods=180))[:, None]),
        "by": ("Subject", ["Subject"], 3), "reml": FLAG, "weights": ("w", 2.0), "tol": ("x", True),
        "optimizer": ("adam",), "max_iter": COUNT, "progress": SHOWN, "unsafe_formula": FLAG,
        "devices": DEVICES, "precision": PRECISION,
        "executor": EXECUTOR,
        "workers_write": FLAG,
        "out": (3, True),
        "resume": FLAG,
        "responses_in": ("row", "Rows", 0, None, True),
        "layer": ("counts", 0, True),
    }),
    "voom_weights": (counted, {
        "counts": (3, -np.ones((180, 3)), np.full((180, 3), "1"), np.ones(180)),
        "formula": (3,), "data": (3, sleep().drop(columns="Days")),
        "responses_in": ("wide", True), "layer": (3, "raw"), "span": SHARE,
        "lib_size": ("Days", 3, [1.0], -np.ones(180), np.full(180, np.nan)),
    }),
    "design": (
        lambda f=DESIGN, d=None, unsafe_formula=False: hlm.design(
            f, sleep() if d is None else d, unsafe_formula=unsafe_formula
        ),
        {"f": (None, 3), "d": ("x", {"a": [1]}), "unsafe_formula": FLAG},
    ),
    "lm_list": (lambda f=FORMULA, d=None: hlm.lm_list(f, sleep() if d is None else d),
                {"f": (None, 3), "d": ("x", {"a": [1]})}),
    "load_dataset": (hlm.load_dataset, {"name": ("Sleepstudy", 3, None)}),
    "suffstats": (stats, {
        "group": (np.array([1, 1, 2, 2]), np.array([0, 0, 1, -1]), np.array([0.0, 0, 1, 1]),
                  np.array(list("aabb")), np.array([True, True, False, False]),
                  np.zeros((4, 1), int)),
        "num_groups": (2.0, True, "2", None, 1),
        "y": (np.ones((4, 1)), np.ones(3), np.ma.masked_greater(np.arange(4.0), 2)),
        "X": (np.ones(4), np.ones((1, 4)), np.ma.masked_equal(np.ones((4, 1)), 1)),
        "Z": (np.ones(4), np.ones((5, 1))), "weights": (np.ones((4, 1)), np.ones(3)),
    }),
    "fit_statistics": (of_stats, {
        "stats": (None, 3.0, stats()._replace(m=np.ones(3)), stats()._replace(TX=np.ones((2, 1))),
                  jax.tree.map(lambda x: x[..., None], stats())),
        "reml": FLAG, "blocks": (3, "01", (), ((0,), (0,)), ((1,),), (("a",),)), "ranef": FLAG,
        "tol": (0.0, -1.0, "x", True), "max_iter": COUNT,
    }),
    "Fit.confint": (lambda **o: one().confint(**o), {
        "method": WORD, "level": SHARE, "parm": (1, "x", [1], True), "n": (), "seed": (),
        "interval": (),
    }),
    "Fit.confint boot": (lambda **o: one().confint("boot", **{"n": 5, "seed": 1} | o), {
        "n": COUNT, "seed": SEED, "interval": ("bc", True, 3),
    }),
    "Fit.profile": (lambda **o: one().profile(**{"parm": "Days", "points": 3} | o), {
        "parm": (1, "x"), "level": SHARE, "points": (5.0, "5", True, 4, 1, None),
    }),
    "Fit.simulate": (lambda **o: one().simulate(**o), {
        "n": COUNT, "seed": SEED, "use_ranef": PART,
        "newdata": (*FRAME[:4], sleep().rename(columns={"Subject": "subject"}), sleep()[["Days"]]),
    }),
    "Fit.refit": (lambda y: one().refit(y), {"y": RESPONSE}),
    "Fit.tidy": (lambda **o: one().tidy(**o), {"df": DF, "conf_level": SHARE}),
    "Fit.summary": (lambda **o: one().summary(**o), {"df": DF[:-1]}),
    "Fit.df": (lambda **o: one().df(**o), {"method": DF}),
    "Fit.p_values": (lambda **o: one().p_values(**o), {"method": DF}),
    "Fit.tidy_robust": (lambda **o: one().tidy_robust(**o),
                        {"kind": ("cr2", 2, None), "conf_level": SHARE, "cluster": CLUSTER}),
    "Fit.vcov_robust": (lambda **o: one().vcov_robust(**o),
                        {"kind": ("cr2", 2, None), "cluster": CLUSTER}),
    "Fit.joint_test_robust": (lambda L="Days", **o: one().joint_test_robust(L, **o), {
        "L": CONTRAST, "kind": ("cr2", 2, None), "rhs": RHS, "cluster": CLUSTER,
    }),
    "Fit.ranef_frame": (lambda **o: one().ranef_frame(**o), {"conf_level": SHARE}),
    "Fit.contrast": (lambda L="Days", **o: one().contrast(L, **o),
                     {"L": CONTRAST, "df": DF, "rhs": RHS, "conf_level": SHARE}),
    "Fit.joint_test": (lambda L="Days", **o: one().joint_test(L, **o),
                       {"L": CONTRAST, "df": DF, "rhs": RHS}),
    "Fit.emmeans": (lambda specs="Days", **o: one().emmeans(specs, **o), {
        "specs": (3, None, "day", ["Days", "Days"], [], True, "~", "~ day", "~ Days +"),
        "at": ([1], "Days", {"Days": "a"}, {"Days": [[1, 2]]}, {"Days": np.nan}, {"Day": 1},
               {"Days": 1j}, {"Days": pd.Timestamp("2020")}, 3),
        "df": DF, "pairwise": FLAG, "conf_level": SHARE, "not_estimable": ("NA", True, None),
        **FAMILIES,
    }),
    "Fit.emtrends": (lambda specs=None, var="Days", **o: one().emtrends(specs, var, **o), {
        "specs": (3, "day", [], True), "var": (3, None, "day", ["Days"]), "at": ([1], 3),
        "df": DF, "conf_level": SHARE, "not_estimable": ("NA", True, None), **FAMILIES,
    }),
    "Fit.joint_tests": (lambda **o: one().joint_tests(**o),
                        {"by": BY, "at": ([1], "Days", {"Day": 1}), "df": DF}),
    "Fit.icc": (lambda at: slopes().icc(at),
                {"at": ([1], 3, "Days", {"Days": "a"}, {"Days": [1, 2]}, {"Day": 1},
                        {"Days": None})}),
    "Fit.influence": (lambda **o: one().influence(**o), {"by": ("Subject", 3, None)}),
    "Fit.predict": (lambda **o: predict(one(), **o), {
        "newdata": (*FRAME[:4], sleep().iloc[0], sleep().rename(columns={"Subject": "subject"}),
                    sleep()[["Days"]], sleep().assign(Days="1"),
                    sleep().assign(Days=pd.Timestamp("2020")), sleep().assign(Days=1j)),
        "ranef": PART, "new_levels": ("zero", None, True), "se": FLAG,
        "interval": ("Confidence", True, 0.95), "level": SHARE, "not_estimable": ("NA", None),
    }),
    "Fit.anova": (lambda *others, **o: one().anova(*others or (slopes(),) * ("refit" in o), **o),
                  {"refit": FLAG, "others": (many(), "x", False, None, [slopes()]),
                   "type": TEST_TYPE, "df": DF[:-1]}),
    "Fit.varcorr_frame": (lambda **o: one().varcorr_frame(**o),
                          {"scale": ("variance", None, True), "conf_level": SHARE}),
    "Fit.loglik_by": (lambda reml: one().loglik_by(reml), {"reml": FLAG}),
    "FitBatch.varcorr_frame": (lambda **o: many().varcorr_frame(**o),
                               {"scale": ("variance", None), "conf_level": SHARE}),
    "FitBatch.loglik_by": (lambda reml: many().loglik_by(reml), {"reml": FLAG}),
    "Fit.drop1": (lambda **o: one().drop1(**o), {"scope": SCOPE, "df": DF}),
    "Fit.rand_test": (lambda **o: one().rand_test(**o), {"drop": DROP}),
    "compare": (lambda *fits, **o: hlm.compare(one(), *fits or (slopes(),), **o),
                {"refit": FLAG, "fits": (many(), "x", None, [slopes()])}),
    "table": (lambda *fits, **o: hlm.table(*fits or ([one(), slopes()],), **o),
              {"fits": ("x", 3, None, [], {}, [1.0]), "digits": COUNT, "stars": FLAG, "df": DF,
               "below": ("se", None, 3, ["ci", 1], {"ci"}), "r2": FLAG, "conf_level": SHARE,
               "labels": ("Days", ["Days"], {"days": "x"}, {"Days": 3})}),
    "Fit.to_excel": (lambda path: one().to_excel(path), {"path": FOLDER}),
    "FitBatch.predict": (lambda **o: predict(many(), **o), {
        "newdata": (*FRAME[:4], sleep().rename(columns={"Subject": "subject"}), sleep()[["Days"]]),
        "ranef": PART, "new_levels": ("zero", None), "se": FLAG, "interval": ("x", True),
        "level": SHARE, "not_estimable": ("NA", None),
    }),
    "FitBatch.confint": (lambda **o: many().confint(**o),
                         {"method": (*WORD, "boot"), "level": SHARE, "parm": (1, "x", [1])}),
    "FitBatch.tidy": (lambda **o: many().tidy(**o), {"df": DF, "conf_level": SHARE}),
    "FitBatch.df": (lambda **o: many().df(**o), {"method": DF}),
    "FitBatch.p_values": (lambda **o: many().p_values(**o), {"method": DF}),
    "FitBatch.tidy_robust": (lambda **o: many().tidy_robust(**o),
                             {"kind": ("cr2", 2), "conf_level": SHARE, "cluster": CLUSTER}),
    "FitBatch.vcov_robust": (lambda **o: many().vcov_robust(**o),
                             {"kind": ("cr2", 2), "cluster": CLUSTER}),
    "FitBatch.joint_test_robust": (lambda L="Days", **o: many().joint_test_robust(L, **o), {
        "L": CONTRAST, "kind": ("cr2", 2), "rhs": RHS, "cluster": CLUSTER,
    }),
    "FitBatch.ranef_frame": (lambda **o: many().ranef_frame(**o), {"conf_level": SHARE}),
    "FitBatch.contrast": (lambda L="Days", **o: many().contrast(L, **o),
                          {"L": CONTRAST, "df": DF, "rhs": RHS, "conf_level": SHARE}),
    "FitBatch.joint_test": (lambda L="Days", **o: many().joint_test(L, **o),
                            {"L": CONTRAST, "df": DF, "rhs": RHS}),
    "FitBatch.emmeans": (lambda specs="Days", **o: many().emmeans(specs, **o), {
        "specs": (3, None, "day"), "at": ([1], "Days", {"Days": "a"}, {"Days": np.nan}),
        "df": DF, "pairwise": FLAG, "conf_level": SHARE, "not_estimable": ("NA", None), **FAMILIES,
    }),
    "FitBatch.emtrends": (lambda specs=None, var="Days", **o: many().emtrends(specs, var, **o), {
        "specs": (3, "day"), "var": (3, None, "day"), "at": ([1],), "df": DF,
        "conf_level": SHARE, "not_estimable": ("NA", None), **FAMILIES,
    }),
    "FitBatch.joint_tests": (lambda **o: many().joint_tests(**o),
                             {"by": BY, "at": ([1],), "df": DF}),
    "FitBatch.icc": (lambda at: many().icc(at), {"at": ([1], 3, {"Days": 1})}),
    "FitBatch.influence": (lambda **o: many().influence(**o), {"by": ("Subject", None)}),
    "FitBatch.anova": (lambda **o: many().anova(**o), {
        "refit": FLAG, "other": (one(), "x", [1], False), "type": TEST_TYPE, "df": DF[:-1]
    }),
    "FitBatch.drop1": (lambda **o: many().drop1(**o), {"scope": SCOPE, "df": DF}),
    "FitBatch.rand_test": (lambda **o: many().rand_test(**o), {"drop": DROP}),
    "FitBatch.test": (lambda **o: many().test(**o), {
        "contrasts": (*(c for c in CONTRAST if c is not None), {"a": "x"}, {}), "df": DF,
        "moderate": ("no", None, 2), "trend": FLAG, "robust": FLAG,
        "adjust": ("fdr", True, None),
        "joint": FLAG, "shape": ("tall", None),
    }),
    "FitBatch.top": (lambda **o: many().top(**o), {"n": COUNT, "by": ("days", 3)}),
    "FitBatch.moderation": (lambda **o: many().moderation(**o),
                            {"trend": FLAG, "robust": FLAG}),
    "FitBatch.verify": (lambda **o: many().verify(**o), {"n": COUNT, "seed": WHOLE_SEED}),
    "FitBatch.to_parquet": (lambda path="x.parquet", **o: many().to_parquet(path, **o),
                            {"path": FOLDER, "df": (*DF[:3], True, [3], ["normal", "KR"])}),
    "FitBatch.read_parquet": (reread, {
        "path": FOLDER, "data": (3, sleep().drop(columns="Days")), "responses": (3, np.ones(180)),
        "responses_in": ("wide", True), "layer": (3, "raw"), "weights": ("w", 2.0),
    }),
    "FitBatch.read_parquet by": (lambda by: reread(by=by, responses=None),
                                 {"by": ("Subjects", ["Subject"], 3)}),
    "Bootstrap.read_parquet": (hlm.Bootstrap.read_parquet, {"path": FOLDER}),
    "Bootstrap.to_parquet": (lambda path: boot().to_parquet(path), {"path": FOLDER}),
    "Bootstrap.confint_of": (lambda function="icc", **o: boot().confint_of(function, **o), {
        "function": (3, None, "rsq", "_show"), "method": ("BCa", "bca", 0.95, None),
        "level": SHARE,
    }),
    "Bootstrap.confint": (lambda **o: boot().confint(**o),
                          {"method": ("BCa", 0.95, None), "level": SHARE}),
    "bootstrap": (lambda fit=None, **o: hlm.bootstrap(
        one() if fit is None else fit, **{"n": 4, "seed": 1, "progress": False} | o), {
        "fit": (many(), "x", FORMULA), "n": COUNT, "method": ("Cases", None, True), "seed": SEED,
        "weights": ("normal", None), "leverage": ("HC2", None), "progress": SHOWN,
        "devices": DEVICES, "precision": PRECISION,
        "executor": EXECUTOR,
        "workers_write": FLAG,
        "out": (3, True),
        "resume": FLAG,
    }),
    "bootstrap_lrt": (lambda small_fit=None, large_fit=None, **o: hlm.bootstrap_lrt(
        small_fit or one(), large_fit or slopes(), **{"n": 4, "seed": 1} | o), {
        "small_fit": (many(), "x"), "large_fit": (many(), "x"), "n": COUNT, "seed": SEED,
    }),
    "max_t": (lambda fits=None, contrasts="Days", **o: hlm.max_t(
        many() if fits is None else fits, contrasts, **{"n": 4, "seed": 1} | o), {
        "fits": (one(), "x", FORMULA, sleep()), "contrasts": (*CONTRAST[:4], {"a": "x"}, {}),
        "n": COUNT, "seed": SEED, "method": ("sign flip", None, True), "df": DF,
        "step_down": FLAG, "progress": SHOWN, "devices": DEVICES,
    }),
    "MaxT.critical": (lambda level: hlm.max_t(many(), "Days", n=4, seed=1).critical(level),
                      {"level": SHARE}),
    "Truth.of": (of, {
        "beta": ("abcd", ["1"], [np.nan], [1j], {"x": "1"}, MASKED, [pd.Timestamp("2020")]),
        "sd": ("a", ["1"], -1.0, [np.inf], MASKED, [1j], [None]),
        "corr": ("a", 1j, [[2.0]], None),
        "sigma": ("1", True, -1.0, np.nan, np.inf, [1.0, 2.0], None),
        "d": (0.5, {"x": "a"}, {"x": 0.5}, {"a": np.nan}), "d_sd": ("residual", 2.0, "total"),
        "partial_r2": (0.5, {"x": 0.5}, {"x": "a"}, [0.5]), "design": (sleep(), "x", True),
    }),
    "effect_sizes": (lambda mechanism=None, d_sd="total": hlm.effect_sizes(
        made() if mechanism is None else mechanism, d_sd), {
        "mechanism": (one(), "x", (1, 2)), "d_sd": ("residual", None, 2.0),
    }),
    "Truth": (lambda beta=(1.0,), cov=((1.0,),), sigma=1.0: hlm.Truth(beta, cov, sigma), {
        "beta": ("a", [None]), "cov": ("a", [[1, 0.5], [0.2, 1]], [[1j]], MASKED, None),
        "sigma": ("1", True, None),
    }),
    "Truth.from_fit": (lambda fit=None, **o: hlm.Truth.from_fit(
        slopes() if fit is None else fit, **o), {
        "fit": (many(), "x", truth()), "beta": ([1, 2], {"Days": "5"}, {"day": 1}, "Days"),
        "sd": ("a", {"Days": "a"}, [1.0]), "corr": ("a", 2.0, 1j),
        "sigma": ("1", True, -1.0),
    }),
    "TruthDistribution": (hlm.TruthDistribution, {"function": ("x", None, 3)}),
    "mechanism": (lambda formula=FORMULA, design=None, truth_=None, violations=(): hlm.mechanism(
        formula, sleep() if design is None else design, truth_ or truth(), violations), {
        "formula": (None, 3), "design": ({"Days": [1]}, "x"), "truth_": ({"beta": 1}, one()),
        "violations": ("heavy", [hlm.violations.ResidualsFrom]),
    }),
    "Mechanism.draw": (lambda **o: made().draw(**{"first": 0, "last": 3} | o), {
        "first": (0.0, False, "0", -1, 5), "last": (3.0, True, "3", 0), "seed": SEED, "rows": FLAG,
    }),
    "Drawn.fit": (lambda **o: made().draw(0, 3, 1).fit(**o), {
        "formula": (3,), "reml": FLAG, "devices": DEVICES, "precision": PRECISION,
    }),
    "simulate": (lambda model=None, truth_=None, **o: hlm.simulate(
        model or one(), truth_ or truth(), **o), {
        "model": ("x", many()), "truth_": ({"b": 1}, "x"), "n": COUNT, "seed": SEED,
        "statistics": FLAG,
    }),
    "power": (power, {
        "mechanism": (one(), "x", (1, 2)), "test": (1, "days", [], 3.5), "n": COUNT,
        "alpha": (5, "0.05", True, None, 0), "df": DF, "seed": SEED, "formula": (3,), "reml": FLAG,
        "level": SHARE, "progress": SHOWN, "devices": DEVICES, "precision": PRECISION,
        "executor": EXECUTOR,
    }),
    "power_curve": (curve, {
        "along": ("Units", None, 3),
        "values": ("10", ["10"], [10.5], 10, [], None, [True], [np.nan]),
        "n": COUNT, "alpha": (5, "0.05"), "df": DF, "seed": SEED, "reml": FLAG, "level": SHARE,
        "progress": SHOWN, "devices": DEVICES, "precision": PRECISION, "executor": EXECUTOR,
    }),
    "solve_power": (solve, {
        "target": (80, "0.8", None, True), "along": ("Units", None),
        "bounds": ("4", None, (4,), (40, 4), (4, 5, 6), ("4", "5"), 4), "n": COUNT,
        "alpha": (5, "0.05"), "df": DF, "seed": SEED, "reml": FLAG, "level": SHARE,
        "devices": DEVICES, "precision": PRECISION, "executor": EXECUTOR,
    }),
    "nsim": (lambda mcse=0.01, measure="coverage", **o: hlm.nsim(mcse, measure, **o), {
        "mcse": ("0.01", True, 0.0, None, np.nan), "measure": ("Coverage", None, 3),
        "expected": (95, "a", True),
    }),
    "nsim of bias": (lambda sd: hlm.nsim(0.01, "bias", sd=sd), {"sd": ("1", -1.0, None, True)}),
    "stopping": (lambda frame=None, targets=None: hlm.stopping(
        measured() if frame is None else frame, {"coverage": 1} if targets is None else targets), {
        "frame": ("a", 3, {"a": 1}),
        "targets": (["coverage"], {"coverage": "a"}, {"Coverage": 1}, {}, {"coverage": True}),
    }),
    "measures": (lambda estimates=None, **o: hlm.measures(
        measured() if estimates is None else estimates, **o), {
        "estimates": ("a", [1], {"a": 1}), "by": (3, "x", None), "alpha": (5, "0.05", True),
        "level": SHARE, "which": ("Bias", ["bia"], 3), "reference": ("x",),
    }),
    "MeasuresTable": (lambda frame: hlm.MeasuresTable(frame), {"frame": ("x", None, [1])}),
    "units": (lambda **o: hlm.units(**{"n": 4, "measurements": 3} | o), {
        "n": COUNT[:6], "measurements": (3.0, "3", True, -3, [3, 3], (5, 2)),
        "within": ("x", ["x"], {"x": 3}), "between": ("x", {"a": "normal"}, {"a": [1, 2]}),
        "factors": ("g", {"g": "ab"}, {"g": 2}, {"g": ["a"]}), "crossed": ({"g": "ab"}, ["g"]),
        "dropout": (20, "0.2", -0.1, [0.1], {"share": 0.2}, {"overall": 1.0}),
        "redraw": ("x", ["x"]), "unit": (3, None),
        "seed": WHOLE_SEED,
    }),
    "extend": (lambda data=None, along="Subject", n=40, **o: hlm.extend(
        sleep() if data is None else data, along=along, n=n, **o), {
        "data": ("x", {"a": [1]}), "along": (["Subject"], "subject", 3), "n": COUNT,
        "within": ("Subject",), "continuing": ("Days",),
    }),
    "study": (study, {
        "conditions": ("a", 3, {"size": 1}, {"size": "ab"}, [1, 2]), "mechanism": ("x", one()),
        "methods": ("lmm", [1], []), "n": COUNT, "seed": WHOLE_SEED, "out": (3, True),
        "resume": FLAG, "executor": EXECUTOR, "workers_write": FLAG,
        "stop": (["coverage"], {"coverage": "a"}, {"x": 1}), "chunk": COUNT,
        "level": SHARE, "devices": DEVICES,
    }),
    "read_study": (hlm.read_study, {"out": FOLDER}),
    "read_fits": (hlm.read_fits, {"folder": FOLDER}),
    "Method": (lambda name="a", **o: hlm.Method(name, **o), {
        "name": (3, None, ""), "formula": (3, True), "reml": FLAG, "estimator": ("LMM", None),
        "df": DF[:-1], "robust": ("cr2", 2), "variances": FLAG,
    }),
}  # fmt: skip
# What the message says in place of the argument's name, where it names what is inside or missing.
SAID = {
    "Y": "response", "by": "by|group|column", "weights": "weights|'w'", "method": "method|df",
    "L": "contrast|hypothesis|fixed effect",
    "contrasts": "contrast|hypothesis|fixed effect", "path": "path|file", "out": "out|file|study",
    "others": "Fit", "fits": "Fit|fits", "other": "FitBatch", "small_fit": "Fit",
    "large_fit": "Fit", "fit": "Fit",
    "newdata": "data|column", "at": "at|variable|Days", "specs": "specs|variable",
    "along": "along|varied|column", "values": "values|units", "name": "name|data set",
    "mechanism": "echanism", "test": "test|fixed effect|hypothesis", "model": "fit", "data": "data",
    "truth_": "[Tt]ruth", "design": "data|design", "targets": "target|measure",
    "conditions": "condition|factor", "which": "which|measure", "reference": "reference|method",
    "factors": "factor", "crossed": "factor|crossed", "within": "within|along|'x'",
    "between": "between|'a'", "f": "formula", "d": "data|d\\b|d\\[",
}  # fmt: skip
CASES = [
    (n, a, bad) for n, (_, of_) in WRONG.items() for a, values in of_.items() for bad in values
]


def shown(case):
    return f"{case[0]}({case[1]}={case[2]!r:.30})".replace("\n", " ")


@pytest.mark.parametrize("case", CASES, ids=shown)
def test_refused_by_an_error_of_ours(case):
    name, argument, bad = case
    call = WRONG[name][0]
    with pytest.raises(errors.JaxhlmError) as caught:
        call(bad) if argument in ("others", "fits") else call(**{argument: bad})
    assert re.search(SAID.get(argument, argument), str(caught.value))


# Arguments of these names take anything, are keyword collections, or are listed under another name.
ANYTHING = {
    "self",
    "learned",
    "options",
    "rng",
    "function",
    "s",
    "term",
    "terms",
    "columns",
}
SAME = {
    "fit_many": {"formula": "fit", "data": "fit", "responses": "fit_many"},
    "design": {"formula": "design", "data": "design", "weights": "fit"},
    "lm_list": {"formula": "lm_list", "data": "lm_list"},
    "power_curve": {"mechanism": "power", "test": "power", "formula": "power"},
    "solve_power": dict.fromkeys(("mechanism", "test", "formula", "progress"), "power"),
    "read_fits": dict.fromkeys(
        ("data", "responses", "by", "weights", "responses_in", "layer"), "FitBatch.read_parquet"
    ),
    "nsim": {"sd": "nsim of bias"},
    "mechanism": {"truth": "mechanism"},
    "simulate": {"truth": "simulate"},
    "study": {"progress": "power"},
    "MeasuresTable": {"which": "measures"},
}
# Traced by JAX, records that functions return, or made by functions that check.
NOT_CALLED = {
    "deviance", "loglik", "lambda_matrix", "minimise", "newton", "violations", "plot", "Status",
    "JaxhlmError", "JaxhlmWarning", "Fit", "FitBatch", "Bootstrap", "BootstrapLRT", "Drawn",
    "MaxT", "Mechanism", "StoredFits", "Study", "UnitDesign",
}  # fmt: skip
CLASSES = ("Fit", "FitBatch", "Bootstrap", "MaxT", "Truth", "Mechanism")


def public():
    """Names of everything that can be called, and it."""
    found = {n: getattr(hlm, n) for n in hlm.__all__ if n not in NOT_CALLED}
    for name in CLASSES:
        methods = inspect.getmembers(getattr(hlm, name), callable)
        found |= {f"{name}.{n}": method for n, method in methods if n[0] != "_"}
    return found


def test_every_argument_is_listed():
    missing = []
    for name, called in public().items():
        listed = {a for key in WRONG if key.split()[0] == name for a in WRONG[key][1]}
        wanted = {*inspect.signature(called).parameters} - ANYTHING - {*SAME.get(name, {})}
        missing += [f"{name}({a})" for a in sorted(wanted - listed)]
    assert not missing


# Right, though not what one would write.


def test_masked_entries_are_missing():
    """Responses, weights and columns alike."""
    d = sleep()
    gap = np.arange(180) < 40
    expected = hlm.fit(FORMULA, d[~gap])
    junk = np.where(gap, 1e4, d["Reaction"])
    Y = np.ma.array(np.column_stack([junk, d["Reaction"]]), mask=np.column_stack([gap, 0 * gap]))
    for responses_ in (Y, Y.astype(int).astype(float) + (Y - Y.astype(int)), Y.tolist()):
        fits = hlm.fit_many(DESIGN, d, responses_, progress=False)
        assert fits.nobs.tolist() == [140, 180]
        np.testing.assert_allclose(fits.fixef.iloc[0], expected.fixef, rtol=tol.SAME_ROWS)
    weights = np.ma.array(np.where(gap, 1e9, 1.0), mask=gap)
    weighted = hlm.fit(FORMULA, d, weights=weights)
    assert weighted.nobs == 140
    np.testing.assert_allclose(weighted.fixef, expected.fixef, rtol=tol.SAME_ROWS)


def test_numbers_of_other_types_are_numbers():
    d = sleep()
    same = hlm.fit_many(DESIGN, d, d[["Reaction"]], progress=False).fixef.to_numpy()
    for Y in (
        d[["Reaction"]].to_numpy().astype(object),
        d[["Reaction"]].to_numpy().tolist(),
        d[["Reaction"]].astype("Float64"),
        d[["Reaction"]].to_numpy().astype(np.longdouble),
    ):
        found = hlm.fit_many(DESIGN, d, Y, progress=False).fixef.to_numpy()
        np.testing.assert_allclose(found, same, rtol=tol.SUMMED)
    assert one().simulate(np.int64(2), seed=np.int64(1)).equals(one().simulate(2, seed=1))
    assert one().confint(level=np.float64(0.9)).equals(one().confint(level=0.9))


def test_refit_takes_the_response_of_the_frame_or_of_the_rows_used():
    d = sleep()
    gaps = hlm.fit(FORMULA, d.assign(Days=d["Days"].where(d.index != 3)))
    for y in (d["Reaction"], d["Reaction"].to_numpy(), d["Reaction"].drop(3)):
        assert gaps.refit(y).criterion == pytest.approx(gaps.criterion)
    assert gaps.refit(d["Reaction"].where(d.index != 3)).nobs == 179
    with pytest.raises(errors.ResponseShapeError, match="index"):
        gaps.refit(d["Reaction"][::-1])
    with pytest.raises(errors.ResponseShapeError, match="missing"):
        gaps.refit(d["Reaction"].where(d.index != 4))
    with pytest.raises(errors.ResponseShapeError, match="179 rows of 180"):
        gaps.refit(np.ones(178))


def test_predictions_need_to_know_the_unit():
    """As lme4; without it ``ranef=False`` says so."""
    new = sleep().iloc[[0, 20]]
    misspelt = new.rename(columns={"Subject": "subject"})
    for fits in (one(), many()):
        for options in ({}, {"se": True}):
            with pytest.raises(errors.MissingColumnError, match="closest: 'subject'; ranef=False"):
                fits.predict(misspelt, **options)
        population = fits.predict(misspelt, ranef=False)
        np.testing.assert_allclose(population, fits.predict(new, ranef=False))
        unknown = fits.predict(new.assign(Subject=["308", None]))
        assert np.isnan(np.reshape(unknown, (-1, 2))).tolist() == [[False, True]] * (
            len(unknown) // 2
        )
        stranger = fits.predict(new.assign(Subject="x"))
        np.testing.assert_allclose(stranger, population)


def test_identifiers_that_are_floats_keep_all_digits_or_are_refused():
    d = sleep()
    number = d["Subject"].astype(int)
    same = hlm.fit(FORMULA, d.assign(Subject=number.astype(float)))
    assert same.ranef.index.tolist() == sorted(number.unique())
    for scale, dtype in ((2.0**53, "float64"), (2.0**24, "float32"), (1e17, "float64")):
        with pytest.raises(errors.GroupingError, match="neighbouring identifiers are equal"):
            hlm.fit(FORMULA, d.assign(Subject=(number + scale).astype(dtype)))
        with pytest.raises(errors.GroupingError, match="neighbouring identifiers are equal"):
            same.predict(d.assign(Subject=(number + scale).astype(dtype)))
    exact = hlm.fit(FORMULA, d.assign(Subject=number + 2**60))
    assert exact.ngroups == 18


def test_labels_of_groups_under_tracing_are_as_documented():
    """Values are not known there; a row outside the range is left out."""
    group = jnp.array([0, 0, 1, 1])
    with jax.enable_x64(True):
        traced = jax.jit(lambda g: stats(group=g).n)(group)
    assert float(traced) == 4.0


@pytest.mark.parametrize(
    "values", [["1"], [True, "a"], [1j], np.array(["2020"], "M8[D]"), [pd.Timedelta(1)], [object()]]
)
def test_real_arrays_hold_real_numbers(values):
    with pytest.raises(errors.NotNumericError, match="what must be numbers"):
        real_array("what", values)


GIVEN = hlm.design("~ Days + (1 | Subject)", sleep())


@pytest.mark.parametrize(
    "call",
    [
        lambda: hlm.fit(GIVEN, sleep()),
        lambda: hlm.fit_many(GIVEN, np.ones((180, 2))),
        lambda: hlm.fit_many(GIVEN, responses=np.ones((180, 2))),
        lambda: hlm.fit_many(GIVEN, sleep(), by="Subject"),
        lambda: hlm.design(sleep(), "Reaction ~ Days + (1 | Subject)"),
        lambda: hlm.lm_list(GIVEN, sleep()),
        lambda: hlm.voom_weights(3, GIVEN, sleep()),
        lambda: hlm.mechanism(sleep(), "Reaction ~ Days + (1 | Subject)", None),
    ],
)
def test_what_is_no_formula_is_said_before_the_data_are_looked_at(call):
    with pytest.raises(errors.FormulaError, match=r"formula must be a string, got (Design|DataF)"):
        call()


@pytest.mark.parametrize("call", [hlm.power, hlm.power_curve, hlm.solve_power])
def test_what_draws_nothing(call):
    values = ("units", [3]) if call is hlm.power_curve else ()
    with pytest.raises(errors.OptionError, match="str draws no data sets"):
        call("y ~ x + (1 | unit)", "x", *values)
