import numpy as np
import pytest
from scipy import stats
from statsmodels.api import OLS, add_constant
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from inferd.experiments.statistics.effect import (
    cuped_theta,
    difference,
    proportion_interval,
    proportion_p,
    relative_difference,
    welch_interval,
    welch_p,
)
from inferd.experiments.statistics.library import scipy


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_a_difference_of_means_is_welchs(arm, rng):
    control, treated = rng.normal(5, 2, 400), rng.normal(5.3, 3, 350)
    effect = difference(arm(control), arm(treated))
    theirs = CompareMeans(DescrStatsW(treated), DescrStatsW(control))
    assert effect.delta == pytest.approx(treated.mean() - control.mean())
    assert effect.units == 750
    assert welch_interval(effect, 0.05) == pytest.approx(theirs.tconfint_diff(usevar="unequal"))
    assert welch_p(effect) == pytest.approx(stats.ttest_ind(treated, control, equal_var=False).pvalue)


@pytest.mark.parametrize(
    ("k", "n", "l", "m"), [(120, 1000, 150, 990), (0, 50, 4, 60), (56, 70, 48, 80), (9, 10, 3, 10)]
)
def test_a_difference_of_proportions_is_newcombes_and_the_score_test(arm, k, n, l, m):  # noqa: E741
    control, treated = arm([1] * l + [0] * (m - l)), arm([1] * k + [0] * (n - k))
    theirs = confint_proportions_2indep(k, n, l, m, method="newcomb", compare="diff")
    assert proportion_interval(control, treated, 0.05) == pytest.approx(theirs, abs=1e-12)
    assert proportion_p(control, treated) == pytest.approx(proportions_ztest([k, l], [n, m])[1])


def test_newcombes_interval_has_the_published_values(arm):
    """Table II of the paper, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    for (k, n, l, m), low, high in [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090)]:  # noqa: E741
        control, treated = arm([1] * l + [0] * (m - l)), arm([1] * k + [0] * (n - k))
        assert proportion_interval(control, treated, 0.05) == pytest.approx((low, high), abs=5e-5)


def test_the_variance_of_a_ratio_is_the_clusters(arm, rng):
    """The delta method over units is the cluster-robust variance of the regression of all outcomes on the variant."""
    outcomes, groups, treated_flags, arms = [], [], [], []
    for treated in (0, 1):
        sizes = rng.integers(1, 6, 300)
        values = [rng.normal(2, 1) + rng.normal(0, 1, size) for size in sizes]
        arms.append(arm([v.sum() for v in values], sizes))
        outcomes += values
        groups += [np.full(size, 300 * treated + i) for i, size in enumerate(sizes)]
        treated_flags.append(np.full(sizes.sum(), treated))
    effect = difference(*arms)
    design = add_constant(np.concatenate(treated_flags))
    robust = OLS(np.concatenate(outcomes), design).fit(
        cov_type="cluster", cov_kwds={"groups": np.concatenate(groups), "use_correction": False}
    )
    assert effect.delta == pytest.approx(robust.params[1])
    assert effect.se == pytest.approx(robust.bse[1] * np.sqrt(300 / 299))
    assert effect.se > 1.3 * OLS(np.concatenate(outcomes), design).fit().bse[1]


def test_a_ratio_metric_has_the_variance_of_its_jackknife(arm, rng):
    clicks, views = rng.poisson(3, 500).astype(float), rng.integers(5, 20, 500).astype(float)
    one = difference(arm(clicks[:250], views[:250]), arm(clicks[250:], views[250:]))
    variance = 0.0
    for part in (slice(0, 250), slice(250, 500)):
        a, b = clicks[part], views[part]
        left_out = (a.sum() - a) / (b.sum() - b)
        variance += 249 / 250 * ((left_out - left_out.mean()) ** 2).sum()
    assert one.se == pytest.approx(np.sqrt(variance), rel=0.01)


def test_cuped_leaves_one_minus_the_squared_correlation_of_the_variance(arm, rng):
    x = rng.normal(10, 3, 20_000)
    y = 2 * x + rng.normal(0, 3, 20_000)
    control, treated = arm(y[:10_000], covariate=x[:10_000]), arm(y[10_000:] + 0.5, covariate=x[10_000:])
    theta = cuped_theta([control, treated])
    plain, sharp = difference(control, treated), difference(control, treated, theta)
    assert theta == pytest.approx(2, rel=0.02)
    assert (sharp.se / plain.se) ** 2 == pytest.approx(1 - np.corrcoef(x, y)[0, 1] ** 2, rel=0.05)
    assert sharp.delta == pytest.approx(0.5, abs=4 * sharp.se)


def test_cuped_is_the_regression_on_the_covariate(arm, rng):
    x = rng.normal(0, 1, 600)
    y = x + rng.normal(0, 1, 600)
    flag = np.repeat([0.0, 1.0], 300)
    control, treated = arm(y[:300], covariate=x[:300]), arm(y[300:], covariate=x[300:])
    sharp = difference(control, treated, cuped_theta([control, treated]))
    fit = OLS(y, add_constant(np.column_stack([flag, x]))).fit(cov_type="HC0")
    assert sharp.delta == pytest.approx(fit.params[1])
    assert sharp.se == pytest.approx(fit.bse[1], rel=0.02)


def test_a_covariate_that_does_not_vary_changes_nothing(arm, rng):
    y = rng.normal(0, 1, 100)
    arms = arm(y[:50], covariate=np.ones(50)), arm(y[50:], covariate=np.ones(50))
    assert cuped_theta(arms) == 0
    assert difference(*arms, cuped_theta(arms)).delta == difference(*arms).delta


def test_a_relative_difference_is_the_delta_methods(arm, rng):
    control, treated = rng.normal(10, 2, 4_000), rng.normal(11, 2, 4_000)
    effect = relative_difference(arm(control), arm(treated))
    rates = treated.mean() / control.mean()
    error = np.sqrt(treated.var(ddof=1) + rates**2 * control.var(ddof=1)) / np.sqrt(4_000) / control.mean()
    assert effect.delta == pytest.approx(rates - 1)
    assert effect.se == pytest.approx(error)


def test_a_relative_difference_with_a_covariate_has_the_spread_it_says(arm, rng):
    x = rng.normal(0, 1, (400, 2, 200))
    y = 5 + x + rng.normal(0, 1, x.shape)
    effects = []
    for run in range(400):
        arms = [arm(y[run, i], covariate=x[run, i]) for i in (0, 1)]
        effects.append(relative_difference(*arms, cuped_theta(arms)))
    assert np.std([e.delta for e in effects]) == pytest.approx(np.mean([e.se for e in effects]), rel=0.1)


def test_scipy_absent_names_the_extra(monkeypatch):
    import sys

    from inferd.core.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingExtra, match=r"pip install 'inferd\[experiments\]'"):
        scipy("stats")
