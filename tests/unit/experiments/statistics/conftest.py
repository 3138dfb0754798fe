import numpy as np
import pytest

from inferd.experiments.statistics.moments import Moments


@pytest.fixture
def arm():
    """The arm of a numerator and, where given, a denominator and a covariate of each unit."""

    def arm(numerator, denominator=None, covariate=None):
        numerator = np.asarray(numerator, np.float64)
        ones, zeros = np.ones_like(numerator), np.zeros_like(numerator)
        columns = [numerator, ones if denominator is None else denominator, zeros if covariate is None else covariate]
        return Moments.of(np.column_stack(columns)).arm()

    return arm
