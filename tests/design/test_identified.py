"""What a design says about the variances: against the dense definition, in one fit and in many."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest

import jaxhlm as hlm
import tolerances as tol
from cases import frame
from jaxhlm import Status, errors, reference
from jaxhlm.design.identified import _evened, design_only, flat_parameters, identified
from jaxhlm.likelihood.covariance import theta_index
from jaxhlm.likelihood.suffstats import Stats
from jaxhlm.statistics.equal_groups import EqualGroups
from jaxhlm.statistics.standardise import Rows, standardise_matrices
from oracles import oracle

pytestmark = pytest.mark.filterwarnings("ignore::jaxhlm.errors.SingularFitWarning")
BLOCKS = {
    1: [((0,),)],
    2: [((0, 1),), ((0,), (1,))],
    3: [((0, 1, 2),), ((0,), (1, 2)), ((0,), (1,), (2,))],
}


def told_apart(X, Z, group, blocks):
    """Whether I and the K'V_abK are linearly independent, K spanning what is orthogonal to X."""
    U, size, _ = np.linalg.svd(X / np.maximum(np.linalg.norm(X, axis=0), 1e-300))
    K = U[:, (size > 1e-9 * size.max(initial=0.0)).sum() :]
    Z = Z / np.maximum(np.sqrt((Z**2).mean(axis=0)), 1e-300)
    same = group[:, None] == group
    pairs = [np.outer(Z[:, a], Z[:, b]) for a, b in theta_index(blocks)]
    matrices = [np.eye(K.shape[1]), *(K.T @ np.where(same, V + V.T, 0.0) @ K for V in pairs)]
    flat = np.stack([M.ravel() for M in matrices])
    norm = np.linalg.norm(flat, axis=1)
    if norm.min() < 1e-9 or flat.shape[0] > flat.shape[1]:
        return False
    return np.linalg.svd(flat / norm[:, None], compute_uv=False)[-1] > 1e-9


def random_design(rng):
    """X, Z, group, weights, blocks of 2 to 7 groups of 1 to 5 rows, many of them degenerate."""
    G = rng.integers(2, 8)
    sizes = rng.integers(1, 6, G) if rng.random() < 0.7 else np.full(G, rng.integers(1, 6))
    group = np.repeat(np.arange(G), sizes)
    n = len(group)
    columns = (
        lambda: np.ones(n),
        lambda: rng.normal(size=n),
        lambda: rng.normal(size=G)[group],
        lambda: rng.integers(0, 2, n) * 1.0,
        lambda: rng.integers(0, 2, G)[group] * 1.0,
        lambda: np.concatenate([np.arange(s) for s in sizes]) * 1.0,
        lambda: (group == rng.integers(G)) * 1.0,
        lambda: rng.normal(size=n) * (group == rng.integers(G)),
    )
    column = lambda: columns[rng.integers(len(columns))]()  # noqa: E731
    Z = np.column_stack([column() for _ in range(rng.integers(1, 4))])
    if rng.random() < 0.6:
        Z[:, 0] = 1.0
    blocks = BLOCKS[Z.shape[1]][rng.integers(len(BLOCKS[Z.shape[1]]))]
    levels = [(group == i) * 1.0 for i in range(G)] if rng.random() < 0.3 else []
    X = np.empty((n, 0))
    for x in [*levels, np.ones(n), *(column() for _ in range(rng.integers(0, 6)))]:
        wider = np.column_stack([X, x])
        X = wider if np.linalg.matrix_rank(wider) == wider.shape[1] else X
    scale = 10.0 ** rng.integers(-4, 5, Z.shape[1])
    return X, Z * scale, group, rng.uniform(0.2, 3.0, n), blocks


def decided(X, Z, group, weights, blocks, reml):
    """The library's answer, None where another status comes first; equal groups joined too."""
    rows = Rows(X, Z, group, np.zeros(len(X), np.int64), weights, blocks)
    matrices = standardise_matrices(rows)
    if matrices.status[0] == Status.NOT_IDENTIFIED:
        return False
    if matrices.status[0] != Status.CONVERGED:
        return None
    found = bool(identified(matrices.stats, blocks, reml)[0])
    joined = EqualGroups.of(matrices.stats, matrices.z_spans_x).join_design(matrices.stats)
    assert identified(joined, blocks, reml)[0] == found
    return found


@pytest.mark.parametrize("reml", [True, False])
def test_random_designs_against_the_definition(rng, reml):
    count = np.zeros(2, int)
    for _ in range(600):
        X, Z, group, weights, blocks = random_design(rng)
        found = decided(X, Z, group, weights, blocks, reml)
        own = np.linalg.matrix_rank
        reached = sum(own(Z[group == g] / np.abs(Z).max(axis=0).clip(1e-300)) for g in set(group))
        if found is None or reached >= len(X):  # no row is left for the residual variance
            continue
        root_w = np.sqrt(weights)[:, None]
        expected = told_apart(X[:, : X.shape[1] * reml] * root_w, Z * root_w, group, blocks)
        assert found == expected, (X, Z, group, blocks)
        count[int(found)] += 1
    assert count.min() > 100


def test_rows_with_a_column_of_their_own(rng):
    """X and Z together reach every row, or all but a few: what is left of σ² decides.

    Where one row of each group has no column of its own, K selects these rows, and the variance of
    a random intercept and σ² are one parameter, whatever the sizes of the groups.
    """
    count = np.zeros(2, int)
    for _ in range(200):
        sizes = rng.integers(1, 5, rng.integers(3, 7))
        group = np.repeat(np.arange(len(sizes)), sizes)
        own = (np.diff(group, prepend=-1) == 0) & (rng.random(len(group)) < rng.choice([0.9, 1.0]))
        X = np.eye(len(group))[:, own]
        X = X @ np.linalg.qr(rng.normal(size=(X.shape[1],) * 2))[0]
        Z = rng.choice([1.0, 2.0], (len(group), 1)) ** rng.integers(0, 2)
        weights = np.ones(len(group)) if rng.random() < 0.7 else rng.uniform(0.2, 3.0, len(group))
        if len(group) == len(sizes):
            continue
        found = decided(X, Z, group, weights, ((0,),), True)
        root_w = np.sqrt(weights)[:, None]
        assert found == told_apart(X * root_w, Z * root_w, group, ((0,),)), (X, Z, group)
        count[int(found)] += 1
    assert count.min() > 40


def single_rows(values):
    """Groups of one row each with Z = (1, value), as statistics without fixed effects."""
    RZ = np.zeros((len(values), 2, 2, 1))
    RZ[:, 0, 0], RZ[:, 0, 1] = 1.0, np.reshape(values, (-1, 1))
    return design_only(RZ)


@pytest.mark.parametrize("copies", [1.0, 1e6])
def test_more_of_the_same_groups_tell_no_more(rng, copies):
    """Two values of x give two variances, and no third entry of D."""
    for third in (False, True):
        for x in rng.uniform(0.3, 3.0, 6):
            stats = single_rows([0.0, x, *([2.0 * x] * third)])
            stats = stats._replace(m=copies * stats.m)
            assert identified(stats, ((0, 1),), False)[0] == third


@pytest.mark.parametrize("unit", [1.0, 1e-5, 1e5])
def test_the_entries_that_cannot_be_told_are_those_of_the_user(unit):
    """In any units, and where the columns are combinations of his: here (1, f) of (1 − f, f)."""
    stats, blocks = single_rows([0.0, 1.0]), ((0, 1),)
    S = np.array([[0.0, 1.0], [1.0, -2.0]])
    sheared = [np.array([[1.0, c], [0.0, 1.0]]) for c in (1.0, 3.0)]
    for C in (np.diag([1.0, unit]), *sheared):
        moved = np.abs(C @ S @ C.T) > 0.0
        expected = [at for at in theta_index(blocks) if moved[at]]
        assert flat_parameters(stats, C, blocks, False) == expected
    # Beside a column that is next to nothing the variance of the other moves next to nothing.
    assert flat_parameters(single_rows([0.0, 1e-7]), None, blocks, False) == [(1, 1)]


def clinics(seed=3):
    """Two clinics in two arms, and four in which every arm has two."""
    r = np.random.default_rng(seed)
    d = pd.DataFrame({"clinic": np.repeat(list("ABCD"), 12), "x": np.tile(np.arange(12.0), 4)})
    d["pair"] = np.where(d["clinic"].isin(["A", "B"]), "one", "two")
    d["age"] = d["x"] + r.normal(size=48)
    d["y"] = 1.0 + 0.3 * d["x"] + r.normal(size=4)[np.repeat(range(4), 12)] + r.normal(size=48)
    return d


# Formula and the parameter that the message names.
FLAT = [
    ("y ~ age + clinic + (1 | clinic)", r"variance of '\(Intercept\)'"),
    ("y ~ x + clinic + (1 | clinic)", r"variance of '\(Intercept\)'"),
    ("y ~ age + clinic + (1 + age | clinic)", "covariance of '.Intercept.' and 'age'"),
    ("y ~ age * clinic + (1 + age | clinic)", "variance of 'age'"),
    ("y ~ age * clinic + (0 + age | clinic)", "variance of 'age'"),
    ("y ~ age + age:clinic + (1 + age || clinic)", "the variance of 'age' cannot"),
]


@pytest.mark.parametrize(("formula", "named"), FLAT)
def test_reml_that_is_flat_is_refused(formula, named):
    """By one fit and by many responses; the message names what cannot be told and the levels."""
    d = clinics()
    with pytest.raises(errors.IdentifiabilityError, match=named) as caught:
        hlm.fit(formula, d)
    assert "contrast between the levels of clinic" in str(caught.value)
    with pytest.raises(errors.IdentifiabilityError, match=named):
        hlm.fit_many(formula, d, responses=d[["y"]])


def test_maximum_likelihood_there_gives_no_variance():
    """Flat REML is no flat deviance: it grows with the variance, and the estimate is 0."""
    fit = hlm.fit("y ~ age + clinic + (1 | clinic)", clinics(), reml=False)
    assert fit.status == Status.SINGULAR
    assert fit.theta[0] == 0.0


# The same covariance for other values of the parameters, whatever the fixed effects.
TWINS = [
    "y ~ x + (1 + flag | unit)",
    "y ~ x + (1 | unit) + (0 + C(flag) | unit)",
    "y ~ x + (1 + x | unit) + (0 + I(1 - x) | unit)",
    "y ~ x + (1 + x | unit) + (1 | unit)",
]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", TWINS)
def test_terms_that_hold_the_same_effects_are_refused(formula, reml):
    d = frame(np.random.default_rng(0), (5, 6, 4, 7, 5, 6), sd=1.0)
    d["flag"] = d["unit"] % 2 * 1.0
    with pytest.raises(errors.IdentifiabilityError, match="same covariance of its rows"):
        hlm.fit(formula, d, reml)


def test_a_batch_gives_each_data_set_its_own_answer():
    """The arm of data set 1 and 3 spans its clinics; neighbours are as if fitted alone."""
    parts = [clinics(seed) for seed in range(4)]
    formula = "y ~ age + arm + (1 | clinic)"
    for i, part in enumerate(parts):
        part["arm"] = (part["clinic"].isin(["A", "B"]) if i % 2 == 0 else part["clinic"] == "A") * 1
        part["which"] = i
    parts[1], parts[3] = (part[part["pair"] == "one"] for part in (parts[1], parts[3]))
    for by in (np.asarray, lambda v: v.astype(str)):  # of numbers and of text: two routes
        d = pd.concat(parts)
        d["clinic"] = d["clinic"].map("ABCD".index) if by is np.asarray else d["clinic"]
        with pytest.warns(errors.ConvergenceWarning, match="2 not_identified"):
            fits = hlm.fit_many(formula, d.assign(which=by(d["which"])), by="which")
        assert (fits.status == Status.NOT_IDENTIFIED).tolist() == [False, True, False, True]
        assert np.isnan(fits.fixef.to_numpy()[1::2]).all()
        for i in (0, 2):
            alone = hlm.fit(formula, parts[i])
            np.testing.assert_allclose(fits.criterion.iloc[i], alone.criterion, rtol=tol.DEVIANCE)


def test_missing_rows_can_take_it_away():
    d = clinics()
    d["arm"] = d["clinic"].isin(["A", "B"]) * 1
    Y = pd.DataFrame({"whole": d["y"], "half": d["y"].where(d["clinic"].isin(["A", "D"]))})
    formula = "age + arm + (1 | clinic)"
    with pytest.warns(errors.ConvergenceWarning, match="1 not_identified"):
        fits = hlm.fit_many(f"~ {formula}", d, responses=Y)
    assert fits.status[1] == Status.NOT_IDENTIFIED
    alone = hlm.fit(f"y ~ {formula}", d)
    np.testing.assert_allclose(fits.criterion.iloc[0], alone.criterion, rtol=tol.DEVIANCE)
    with pytest.raises(errors.IdentifiabilityError, match="REML is flat"):
        hlm.fit(f"y ~ {formula}", d.assign(y=Y["half"]).dropna())


@pytest.mark.parametrize(("noise", "refused"), [(1e-9, True), (1e-7, True), (1e-3, False)])
def test_nearly_spanned(noise, refused):
    """Clinics but for noise, on both sides of what an optimiser can see of the variance."""
    d = clinics()
    d = d[d["pair"] == "one"]
    x = np.random.default_rng(1).normal(size=len(d))
    d = d.assign(arm=(d["clinic"] == "A") + noise * x)
    if refused:
        with pytest.raises(errors.IdentifiabilityError, match="REML is flat"):
            hlm.fit("y ~ age + arm + (1 | clinic)", d)
    else:
        assert hlm.fit("y ~ age + arm + (1 | clinic)", d).status.ok


def test_a_single_level_more_identifies_a_large_design():
    """One contrast among thousands carries the variance, and one group that is much larger none."""
    G = 3_000
    group = np.repeat(np.arange(G), 2)
    half = group // 2
    d = pd.DataFrame({"unit": group, "x": np.random.default_rng(0).normal(size=len(group))})
    spans = np.column_stack([half == i for i in range(20)]).astype(float)
    few = group < 40
    X, Z = spans[few], np.ones((few.sum(), 1))
    Z[:2] = 1e6
    own = np.column_stack([X, group[few] == 0, d["x"][few]])
    rows = Rows(own, Z, group[few], np.zeros(few.sum(), np.int64), None, ((0,),))
    assert identified(standardise_matrices(rows).stats, ((0,),), True)[0]


@pytest.mark.parametrize("weight", [1e-5, 1e-3, 1.0, 1e3, 1e5])
@pytest.mark.parametrize("spanned", [1, 3, 4])
def test_a_group_that_outweighs_the_others(rng, weight, spanned):
    """Its Z is of another size and in the span of X, as others may be, but for one."""
    group = np.repeat(np.arange(4), 5)
    Z = np.where(group == 0, weight, 1.0)[:, None]
    X = np.column_stack(
        [*(Z[:, 0] * (group == i) for i in range(spanned)), rng.normal(size=(20, 4))]
    )
    found = decided(X, Z, group, np.ones(20), ((0,),), True)
    assert found == (spanned < 4)


# Identified models whose columns of Z are dependent, with lme4's REML criterion on sleepstudy.
def test_dependent_columns_of_z_against_lme4():
    d = hlm.load_dataset("sleepstudy")
    d["band"] = pd.cut(d["Days"], [-1, 2, 5, 9], labels=["a", "b", "c"])
    fit = hlm.fit("Reaction ~ band + Days + (1 | Subject) + (0 + band || Subject)", d)
    np.testing.assert_allclose(fit.criterion, 1750.00282609, atol=tol.LME4_CRITERION)
    np.testing.assert_allclose(
        fit.theta[[0, 1, 3]], [1.38212185, 0.77820617, 0.93991125], tol.LME4_THETA
    )
    expected = reference.fit(
        fit.design.y, fit.design.X, fit.design.Z, fit.design.group, True, None, fit.design.blocks
    )
    np.testing.assert_allclose(fit.criterion, expected.criterion, rtol=tol.DEVIANCE)
    np.testing.assert_allclose(fit.varcorr.cov, expected.cov, rtol=tol.ESTIMATE, atol=tol.ESTIMATE)
    V = np.where(fit.design.group[:, None] == fit.design.group, 1.0, 0.0)
    V = V * (fit.design.Z @ fit.varcorr.cov.to_numpy() @ fit.design.Z.T)
    whole = V + fit.sigma**2 * np.eye(180)
    blup = V @ np.linalg.solve(whole, fit.design.y - fit.design.X @ fit.fixef.to_numpy())
    np.testing.assert_allclose(fit.fitted - fit.design.X @ fit.fixef, blup, atol=tol.ESTIMATE)
    Y = fit.simulate(3, seed=1)
    many = hlm.fit_many(f"~ {fit.model.formula.split('~')[1]}", d, responses=Y)
    long = pd.concat([d.assign(Reaction=Y.iloc[:, i], r=i) for i in range(3)])
    by = hlm.fit_many(fit.model.formula, long, by="r")
    np.testing.assert_allclose(many.criterion, by.criterion, rtol=tol.DEVIANCE)
    assert not many.influence().frame().empty


NO_FIXED = "Reaction - 250 ~ 0 + (Days | Subject)"


@pytest.fixture(scope="module")
def no_fixed():
    d = hlm.load_dataset("sleepstudy")
    d["y"] = d["Reaction"] - 250.0
    return hlm.fit("y ~ 0 + (Days | Subject)", d), d


def test_models_without_fixed_effects_against_lme4(no_fixed):
    """REML is ML, in a fit and in the functions for JAX users."""
    fit, d = no_fixed
    np.testing.assert_allclose(fit.loglik, -887.924781073, atol=tol.LME4_CRITERION)
    np.testing.assert_allclose(fit.theta, [0.93083892, 0.04225579, 0.46411432], tol.LME4_THETA)
    ml = hlm.fit("y ~ 0 + (Days | Subject)", d, reml=False)
    np.testing.assert_allclose(ml.criterion, fit.criterion, rtol=tol.DEVIANCE)
    one = hlm.fit("Reaction ~ 0 + (1 | Subject)", d)
    np.testing.assert_allclose(one.criterion, 1985.67969094, atol=tol.LME4_CRITERION)
    import jax  # float64 is scoped to the functions that take arrays

    with jax.enable_x64(True):
        s = hlm.suffstats(fit.design.y, fit.design.X, fit.design.Z, fit.design.group, 18)
        for reml in (True, False):
            value = hlm.deviance(fit.theta, s, reml)
            np.testing.assert_allclose(value, fit.criterion, rtol=tol.DEVIANCE)
            found = oracle(partial(hlm.minimise, reml=reml))(s)
            np.testing.assert_allclose(found.value, fit.criterion, rtol=tol.DEVIANCE)
            assert found.beta.shape == (0,)


def test_results_without_fixed_effects(no_fixed):
    """Empty tables of β, and everything else as usual, without a warning."""
    fit, d = no_fixed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit.fixef.empty and fit.vcov.shape == (0, 0) and fit.confint().empty
        assert set(fit.tidy()["effect"]) == {"ran_pars"}
        assert fit.tidy_robust().empty and fit.df().empty
        assert "No fixed effects" in str(fit.summary())
        assert (fit.predict(d, ranef=False) == 0.0).all()
        assert fit.augment()[".cooksd"].isna().all()
        assert fit.influence().cooks_distance.isna().all()
        assert fit.r2()["marginal"] == 0.0
        assert 0.0 < fit.icc() < 1.0
        assert fit.verify().criterion < tol.CRITERION
        larger = hlm.fit("y ~ 1 + (Days | Subject)", d, reml=False)
        assert fit.refit_ml().anova(larger) is not None
        assert "Subject" in str(fit.rand_test())
        for method in ("parametric", "residual", "cases"):
            assert hlm.bootstrap(fit, 8, seed=1, method=method) is not None


def test_batches_without_fixed_effects(no_fixed):
    fit, d = no_fixed
    Y = fit.simulate(4, seed=2)
    Y.iloc[3, 2] = np.nan
    alone = [hlm.fit("y ~ 0 + (Days | Subject)", d.assign(y=Y[c]).dropna()) for c in Y]
    expected = [one.criterion for one in alone]
    many = hlm.fit_many("~ 0 + (Days | Subject)", d, responses=Y)
    np.testing.assert_allclose(many.criterion, expected, rtol=tol.DEVIANCE)
    long = pd.concat([d.assign(y=Y[c], r=i) for i, c in enumerate(Y)]).dropna()
    for r in (long["r"], long["r"].astype(str)):
        by = hlm.fit_many("y ~ 0 + (Days | Subject)", long.assign(r=r), by="r")
        np.testing.assert_allclose(by.criterion, expected, rtol=tol.DEVIANCE)
    assert many.fixef.shape == (4, 0)
    assert many.tidy()["effect"].eq("ran_pars").all()


def test_a_large_offset_is_told_to_be_centred():
    """Milliseconds since 1970: neither dependent nor to be left out."""
    d = hlm.load_dataset("sleepstudy")
    d["t"] = 1.7e12 + 1e4 * d["Days"]
    with pytest.raises(errors.IdentifiabilityError, match=r"'t' differs .* subtract its mean"):
        hlm.fit("Reaction ~ Days + (1 + t | Subject)", d)
    with pytest.warns(errors.RankDeficientWarning, match=r"'t' differs .* subtract its mean"):
        hlm.fit("Reaction ~ t + (1 | Subject)", d)
    centred = hlm.fit("Reaction ~ t + (1 + t | Subject)", d.assign(t=d["t"] - d["t"].mean()))
    assert centred.status == Status.CONVERGED


def test_leaving_a_group_out_can_take_it_away():
    """Influence gives a group the status that fitting without it would have."""
    d = clinics()
    d = d[d["clinic"] != "D"].assign(arm=d["clinic"] == "A")
    formula = "y ~ age + arm + (1 | clinic)"
    influence = hlm.fit(formula, d).influence()
    expected = [Status.RANK_DEFICIENT, Status.NOT_IDENTIFIED, Status.NOT_IDENTIFIED]
    assert influence.status.tolist() == expected
    with pytest.raises(errors.IdentifiabilityError, match="REML is flat"):
        hlm.fit(formula, d[d["clinic"] != "B"])


def test_tiny_data_sets_of_all_kinds_in_one_batch(rng):
    """Degenerate lanes beside others: both routes agree with fits of one."""
    parts = []
    for lane in range(24):
        group = np.repeat(np.arange(3), rng.integers(1, 5, 3))
        x = rng.integers(0, 3, len(group)) * 1.0
        y = x + rng.normal(size=3)[group] + rng.normal(size=len(group))
        parts.append(pd.DataFrame({"y": y, "x": x, "unit": group, "lane": lane}))
    formula, long = "y ~ x + (1 + x || unit)", pd.concat(parts)
    fits = []
    for lane in (long["lane"], long["lane"].map("{:02d}".format)):
        with pytest.warns(errors.ConvergenceWarning, match="not_identified"):
            fits.append(hlm.fit_many(formula, long.assign(lane=lane), by="lane"))
    assert fits[0].status.tolist() == fits[1].status.tolist()
    for part, status, criterion in zip(parts, fits[0].status, fits[0].criterion, strict=True):
        if status == Status.NOT_IDENTIFIED:
            with pytest.raises(errors.IdentifiabilityError):
                hlm.fit(formula, part)
        elif Status(status).ok:
            alone = hlm.fit(formula, part)
            np.testing.assert_allclose(alone.criterion, criterion, atol=tol.CRITERION)


def test_a_data_set_without_a_level_of_a_factor_left_of_a_bar():
    """Of the other levels ``fit`` would make another model: 1 and three that add up to it."""
    rng = np.random.default_rng(0)
    d = pd.DataFrame({"rep": np.repeat(np.arange(4), 96), "g": np.tile(np.arange(96) // 8, 4)})
    d["f"], d["x"] = np.array(list("abcd"))[rng.integers(0, 4, len(d))], rng.normal(size=len(d))
    d.loc[(d["rep"] == 1) & (d["f"] == "c"), "f"] = "b"
    d.loc[(d["rep"] == 2) & (d["f"] == "a"), "f"] = "b"
    d["y"] = rng.normal(size=(48, 4))[d["rep"] * 12 + d["g"], d["f"].map("abcd".index)]
    d["y"] += rng.normal(size=len(d))
    Y = d.query("rep == 0")[["y"]].assign(z=lambda t: t["y"].where(d["f"] != "a"))
    for formula in ("y ~ x + (1 + f || g)", "y ~ x + (0 + f | g)"):
        with pytest.warns(errors.ConvergenceWarning, match="2 of 4 fits failed .2 not_identified"):
            fits = hlm.fit_many(formula, d, by="rep", progress=False)
        assert (fits.status[[1, 2]] == Status.NOT_IDENTIFIED).all() and fits.ok[[0, 3]].all()
        with pytest.warns(errors.ConvergenceWarning, match="1 of 2 fits failed .1 not_identified"):
            hlm.fit_many(formula, d[d["rep"] == 0], Y, progress=False)


@pytest.mark.parametrize("size", [1e-140, 1e-100, 1e-70, 1e70, 1e95, 1e140])
@pytest.mark.parametrize("reml", [True, False])
def test_few_rows_are_enough_in_any_unit(size, reml):
    """Rows so few that the random part is looked at before the fit, with a covariate of groups."""
    group = np.repeat(np.arange(7), [2, 2, 1, 1, 1, 2, 2])
    z = np.array([2.8, 0.3, -0.9, 0.4, -0.7, -1.6, -0.3])[group]
    data = pd.DataFrame({"y": np.sin(np.arange(11.0) ** 2), "z": z, "g": group})
    one, other = (
        hlm.fit("y ~ 1 + (1 + z | g)", data.assign(z=z * scale), reml) for scale in (1.0, size)
    )
    assert other.status == one.status
    assert other.criterion == pytest.approx(one.criterion, rel=tol.SAME_CRITERION)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_in_which_all_groups_count_alike(unit):
    """The shortest column is 1, if it is there; a hundred times as long is another unit."""
    lengths = np.array([
        [3.0, 3.0, 3.0, 3e-6],
        [297.0, 303.0, 3.0, 300.0],
        [1e-10, 0.0, 0.0, 1e-10],  # rounding
        [0.01, 0.01, 0.01, 1e-9],  # a class without a group
    ])  # fmt: skip
    RZ = np.array([[1.0, 0.6], [0.0, 0.8]])[None, ..., None] * unit * lengths[:, None, None]
    m = np.array([1.0, 2.0, 1.0, 0.0])[:, None] + np.zeros(4)
    evened, uneven = _evened(Stats(*[None] * 10)._replace(RZ=RZ, m=m))
    assert uneven.tolist() == [False, True, False, True]
    np.testing.assert_allclose(evened.RZ, RZ / (unit * lengths[0]))
