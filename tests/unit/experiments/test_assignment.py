import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from inferd.experiments.assignment import BUCKETS, Assigner, bucket
from inferd.experiments.definition import Holdout, Namespace, Targeting, Variant

UNITS = [f"user-{i}" for i in range(20_000)]
PAGE = Path(__file__).parents[3] / "docs/experiments/assignment.md"


def names(experiment, units=UNITS):
    assigner = Assigner(experiment)
    assignments = (assigner.assign(unit) for unit in units)
    return np.array([each.variant.name if each.variant else each.reason for each in assignments])


def test_the_published_vectors_hold():
    rows = re.findall(r"^\| `([^`]*)` \| `([^`]*)` \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) >= 6
    for salt, unit, expected in rows:
        assert bucket(salt, unit) == int(expected), (salt, unit)


def test_another_process_agrees():
    code = "from inferd.experiments.assignment import bucket; print([bucket('s', f'u{i}') for i in range(50)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([bucket("s", f"u{i}") for i in range(50)])


def test_a_hundred_thousand_units_fill_the_buckets_evenly():
    counts = np.bincount([bucket("uniform", f"user-{i}") for i in range(100_000)], minlength=BUCKETS)
    assert counts.size == BUCKETS
    assert stats.chisquare(counts).pvalue > 0.001


def test_experiments_with_different_salts_are_independent(define):
    experiment = define()
    one, other = (names(replace(experiment, salt=salt)) == "control" for salt in ("a", "b"))
    table = np.histogram2d(one, other, bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_variants_are_as_large_as_their_weights(define):
    experiment = replace(define(), variants=tuple(Variant(n, "m", w) for n, w in (("a", 1), ("b", 2), ("c", 7))))
    got = names(experiment)
    counts = [(got == name).sum() for name in "abc"]
    assert stats.chisquare(counts, [2000, 4000, 14000]).pvalue > 0.001


def test_more_coverage_adds_units_and_moves_none(define):
    experiment = define()
    before = names(replace(experiment, coverage=0.1))
    for coverage in (0.2, 0.5, 1.0):
        after = names(replace(experiment, coverage=coverage))
        joined = before != "coverage"
        assert (after[joined] == before[joined]).all()
        assert (after != "coverage").mean() == pytest.approx(coverage, abs=0.02)
        before = after


def test_a_new_weight_moves_only_the_share_it_must(define):
    experiment = define()
    control, candidate = experiment.variants
    before, after = names(experiment), names(replace(experiment, variants=(control, replace(candidate, weight=1.5))))
    moved = before != after
    assert moved.mean() == pytest.approx(0.1, abs=0.01)
    assert set(after[moved]) == {"candidate"}


def test_disjoint_slices_of_a_namespace_share_no_unit(define):
    experiment = define()
    one = names(replace(experiment, salt="a", namespace=Namespace("home", 0.0, 0.5)))
    other = names(replace(experiment, salt="b", namespace=Namespace("home", 0.5, 1.0)))
    assert ((one == "namespace") != (other == "namespace")).all()


def test_a_holdout_keeps_the_same_units_out_of_every_experiment_that_names_it(define):
    experiment = replace(define(), holdout=Holdout(0.1))
    out = [names(replace(experiment, salt=salt)) == "holdout" for salt in ("a", "b")]
    assert (out[0] == out[1]).all()
    assert out[0].mean() == pytest.approx(0.1, abs=0.01)


def test_targeting_wants_every_rule_to_hold(define):
    rules = (Targeting(("DE", "AT"), header="X-Country"), Targeting(("pro",), attribute="plan"))
    assigner = Assigner(replace(define(), targeting=rules))
    assert assigner.assign("u", {"x-country": "DE"}, {"plan": "pro"}).reason == "assigned"
    assert assigner.assign("u", {"x-country": "FR"}, {"plan": "pro"}).reason == "targeting"
    assert assigner.assign("u", {"x-country": "DE"}).reason == "targeting"
    assert assigner.assign("u").variant is None
