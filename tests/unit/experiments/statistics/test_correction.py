import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from inferd.experiments.statistics.correction import corrected

P_VALUES = st.lists(st.floats(1e-9, 1), min_size=1, max_size=20)


@given(P_VALUES)
def test_holm_is_statsmodels(p_values):
    assert corrected(p_values, "holm") == pytest.approx(list(multipletests(p_values, method="holm")[1]))


@given(P_VALUES)
def test_benjamini_and_hochberg_is_statsmodels(p_values):
    assert corrected(p_values, "benjamini-hochberg") == pytest.approx(list(multipletests(p_values, method="fdr_bh")[1]))


@given(P_VALUES)
def test_no_correction_changes_nothing(p_values):
    assert corrected(p_values, "none") == p_values


@pytest.mark.parametrize("method", ["holm", "benjamini-hochberg", "none"])
def test_nothing_to_correct_is_nothing(method):
    assert corrected([], method) == []
