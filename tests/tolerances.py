"""One tolerance per quantity, with its reason; tests name the quantity, not a number.

lme4 stops within about 1e-6 of its optimum in the criterion, and θ, on which all else depends, is
then good to 1e-4 at worst on a flat problem; the library and the NumPy reference agree much closer.
"""


def printed(decimals):
    """Half a unit of the last of so many decimals: what is left open by a printed number."""
    return 0.5 * 10.0**-decimals


# Rounding alone, of numbers of size 1.
LAST_BITS = 1e-15  # one operation or two
ROUNDED = 1e-14  # a product or a factor of tiny matrices: 1e-15
REORDERED = 1e-13  # the same algebra in another order: 1e-14
SUMMED = 1e-12  # sums over rows or lanes, in another order: 3e-13
# What is left where nearly all of a number cancels, relative. Achieved 4e-8.
CANCELLED = 1e-6
# Scale below which what a tolerance is relative to counts as this.
NOTHING = 1e-6

# Against lme4's published values. Achieved: in the comments, worst over all files.
LME4_CRITERION = 1e-6  # 6e-11, or lower than lme4
LME4_BETA_IN_SE = 1e-5  # 4e-7
LME4_SE = 1e-5  # 2e-7, relative
LME4_SIGMA = 1e-6  # 5e-8, relative
LME4_COV = 1e-5  # 9e-7, relative to the largest variance
LME4_RANEF = 1e-5  # 1e-6, relative to the largest, conditional variances too
LME4_FITTED = 1e-5  # 1e-7, relative
LME4_PART = 1e-6  # predictions with part of the random effects, relative
LME4_THETA = 1e-4  # 7e-5, relative, of the smallest variance on a flat problem
# How far lme4's own criterion may lie above the lowest.
LME4_ABOVE = 1e-5
# A likelihood ratio: two of its criteria.
LME4_RATIO = 2 * LME4_CRITERION
LME4_IC = 1e-5  # 1e-10, AIC and BIC
# Statistics and p-values of anova and ranova; p-values of 1e-25 magnify the statistic's error.
LME4_TEST = 1e-6  # relative

# Against the dense definition and the NumPy reference.
DEVIANCE = 1e-10  # 1e-13, relative: the same algebra in another order
DERIVATIVE = 1e-9  # 1e-13, relative to the largest entry, against automatic differentiation
CRITERION = 1e-8  # 2e-10: a cross-product pass loses up to three digits of sixteen
FAR_CRITERION = 1e-8  # 1e-9: residuals of a response of 1e9 are known to 1e-7
ESTIMATE = 1e-6  # 1e-9, relative: first order in θ, whose error is the criterion's square root

# The same of designs drawn at random, nearly singular ones too, β in standard errors.
LOSSY = 1e-4

# Tiny matrices of condition below 1e4.
SMALL = 1e-11
CANONICAL = 1e-13
# Central differences with a step of 1e-5, relative to the largest slope.
DIFFERENCES = 1e-7
# Single precision, relative, on well scaled data.
SINGLE = 1e-4
# An optimiser other than Newton ends with the same closing Newton step. Achieved 3e-13.
OPTIMISERS = 1e-6
# Standardised statistics: x around 1e5 with sd 3 leaves eleven of sixteen digits.
UNITS = 1e-9
# The same statistics by another route (one pass of products, residual rows, padding), size ~ 1.
PRODUCTS = 1e-11
# Random effects 1e4 times larger or smaller than residuals, against the reference.
EXTREME = 1e-6
# Implicit derivatives of estimates by the data against differences, relative to the largest.
IMPLICIT = 1e-6
SINGLE_ESTIMATE = 5e-3
# Fits searched in single and decided in double precision against those of the cores: criteria,
# relative, and β in standard errors. Achieved 6e-14 and 4e-9.
SINGLE_SEARCH = 1e-11
SINGLE_SEARCH_BETA = 1e-6
# Degrees of freedom against lmerTest, whose derivatives are numerical, and pbkrtest, relative.
LME4_DF = 1e-5  # 1.4e-6 lmerTest, 6e-8 pbkrtest
LME4_P = 1e-5  # of log p; 7e-7
LME4_KR_SE = 1e-6  # 2e-7: first order in lme4's θ
# Against the n × n definitions at the same estimates, for which θ is the same number.
DENSE_DF = 1e-8  # 2e-10
# Against central second differences of the dense criterion.
DIFFERENCED_DF = 1e-4  # 1.2e-6
# A lane of a batch and the same fit alone stop at optima 1e-10 apart in the criterion.
BATCH_DF = 1e-6  # 1e-9
# All fits of a batch at once against its fits one by one, at the same estimates. Achieved 1e-12: θ
# is the same number, the algebra comes in another order.
BATCH = 1e-10
# Studentised ranges against SciPy's adaptive integrals. Achieved 2e-9, most of it theirs.
RANGE = 1e-7
# Robust covariances and df, relative, against n × n matrices. Achieved 3e-13: roots of matrices.
ROBUST = 1e-10
# Their df where no more than a share of 1e-3 of the model's variance is left in the sandwich: they
# are quotients of its squares. Achieved 2e-10.
ROBUST_REST = 1e-8
# clubSandwich's covariances and df, lme4's leverages and Cook's distances, at an optimum of lme4's
# own that is 1e-5 off in θ. Achieved 4e-8.
LME4_ROBUST = 1e-6
LME4_TAIL = 1e-4  # 1e-6, p values, relative: in a tail an error of a t value counts many times
# Prediction errors, leverages and residual variances against n × n matrices. Achieved 1e-13.
DENSE = 1e-9
# Refits without a group against fits of the other rows, which are standardised anew: β in standard
# errors, σ and Σ relative. Achieved 4e-9: first order in θ, as ESTIMATE.
LEFT_OUT = 1e-6
# Against lme4's influence, whose refits stop early, relative to the largest. Achieved 3e-5, and of
# dfbeta without a row, which are small differences, 1e-4.
LME4_LEFT_OUT = 1e-4
LME4_ROW_LEFT_OUT = 1e-3
# Profile limits against lme4, which reads them off splines. Achieved 2.5e-4, most 1e-6.
LME4_PROFILE = 1e-3
# Rise of the dense profile, minimised by Nelder–Mead, in units of the deviance. Achieved 2e-6.
DENSE_PROFILE = 1e-4
# Limits are found to 1e-7 in ζ.
PROFILE_UNITS = 1e-6
# Estimates from re-weighted statistics of groups against those from the resampled rows, relative to
# the largest. Achieved 3e-9: θ is good to the root of the criterion's error.
RESAMPLED = 1e-7
# Bootstrap limits from the same replicates: the same quantiles. Achieved 2e-15.
INTERVAL = 1e-12
# Moments that are matched by construction, relative. Achieved 1e-15.
MOMENTS = 1e-12
# Performance measures against the formula of one group. Achieved 1e-14.
HAND = 1e-11
# Sd of a measure over 2,000 studies against its stated MCSE: the sd has a relative Monte-Carlo
# error of 1.6 %, and the formulas are first order in 1/n. Achieved 0.027.
META_MCSE = 0.06
# Coordinates read back from a figure.
DRAWN = 1e-9
# Priors of variances against limma, whose inverse of ψ' stops at 1e-8. Achieved: in the test.
LIMMA_DF = 1e-7
# Robust priors, whose d₀/(1 + d₀) limma finds to 1e-8.
LIMMA_ROBUST = 1e-6
# What a far outlier moves a robust prior of 2,000 variances, relative. Achieved 1e-3.
ONE_OF_MANY = 0.01
# Performance measures against rsimsum and simhelpers, relative. Achieved 5e-15.
PACKAGES = 1e-10
# Under another BLAS kernel or number of threads, relative to the largest. Achieved 4e-14.
KERNEL = 1e-9

# Estimates of the same rows given in two forms, relative: the steps to the optimum are the
# same. Achieved 1e-14.
SAME_ROWS = 1e-10
# The criterion of one optimum in two units, relative.
SAME_CRITERION = 1e-9
# A likelihood ratio: two criteria. Achieved 4e-12.
RATIO = 2 * CRITERION
# One fit and its lane, every name that both have: relative, and for what is zero.
ALIKE = 2e-6
ALIKE_ZERO = 1e-7
# A covariance that is zero or nearly, found twice. Achieved 2e-11.
ZERO_VARIANCE = 1e-8
# Their df where a row's unit turns the axes that they are about: roughly the same only.
PRINCIPAL_AXES = 0.5
# p values and quantiles of t, F and normal distributions against SciPy's, relative. Achieved 2e-13.
TAIL = 1e-10
# Power by formula against SciPy's noncentral t, relative. Achieved 3e-7.
ANALYTIC = 1e-6
# The lowest criterion known, by all of lme4's optimisers. Achieved 1e-6.
LOWEST = 1e-5
# θ where the scan stops: the grid is a few percent wide. Achieved 0.02.
SCAN = 0.05
# The largest slope of the standardised criterion at an optimum; of hard little data sets; of the
# loglikelihood and of ``minimise`` by θ as it is.
GRADIENT = 1e-6
LITTLE_GRADIENT = 1e-4
SCORE = 1e-5
# Tiny matrices in single precision. Achieved 4e-7.
SINGLE_SMALL = 1e-6
# Coefficients of size 1e6 of one column by others. Achieved 6e-10.
RELATION = 1e-7
# What others leave of a column that is 1e-5 off them, relative. Achieved 5e-4.
REMAINDER = 1e-3
# Σ of the reference where x lies around 1e5 and y is 1e4 times smaller: eight digits apart.
SHIFTED_COV = 1e-5
# Balanced designs in closed form against the reference's iterations. Achieved 7e-15.
CLOSED = 1e-9
CLOSED_COV = 1e-8  # relative to the largest entry
# The criterion in 80-bit numbers against the standardised one, at θ of 1e5. Achieved 4e-10.
LONG = 1e-7
# Lines by least squares against NumPy's, relative. Achieved 1e-15.
LEAST_SQUARES = 1e-10
# Sums of squares, F, df and p values of lmerTest, at its own optimum, relative: it rounds its
# contrasts to seven digits, and that of poly to five.
R_TERMS = 3e-4  # 1.5e-4, most 1e-6
# Means and contrasts of emmeans, p values in a tail included, relative.
R_MEANS = 1e-4  # 2e-6
R_MEANS_ZERO = 1e-6  # and of what is nearly zero, such as p values in a far tail
# p values and limits by the multivariate t against mvtnorm, at whole df, to its own Monte-Carlo
# error.
MVT = 3e-3
# The same integral against the studentised range, which is as wide or wider: its own error.
MVT_INTEGRAL = 1e-3  # 4e-5
# Axes of rePCA, whose small components magnify the error of θ, relative.
RE_PCA = 1e-3
# Tests of the same hypotheses of models in other contrasts, relative.
CODING = 1e-6  # 1e-8
# R's lm and emmeans, printed to seven digits, relative.
R_LM = 1e-6  # 2e-7
R_P = 1e-5  # 2e-7
# Columns against formulaic's own, relative. Achieved 0.
FORMULAIC = 1e-9
# A rate that a search by bisection or fixed point has to meet.
RATE = 1e-9
# MCSE of a measure that compares a method with itself: the root of a rounding. Achieved 4e-7.
ROOT_OF_ROUNDING = 1e-6
# A delete-one jackknife of 2,000 estimates against the normal formula, relative.
JACKKNIFE = 0.1
# Monte-Carlo standard errors that a mean may lie off.
MONTE_CARLO = 4.0
# What the benchmark lets a criterion lie above the reference's.
EXCESS = 1e-6
