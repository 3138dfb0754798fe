import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inferd.core.config import BatchingConfig, ExecutionConfig, ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed
from inferd.repository import warmup
from inferd.repository.warmup import LARGEST_BATCH_ROWS, warm_up
from inferd.testing.fakes import FakeModel

NOWHERE = Path("nowhere/model.bin")


def config(**options):
    return ModelConfig(name="m", **options)


def test_a_cheap_model_is_batched_up_to_the_largest_size_and_runs_inline():
    model = FakeModel()
    measured = warm_up([model], config(execution=ExecutionConfig(inline_max_us=1e6)), NOWHERE)
    assert (measured.batching, measured.max_batch_size, measured.inline_rows) == (True, LARGEST_BATCH_ROWS, 1024)
    assert measured.max_batch_difference == 0.0


def test_a_configured_batch_size_is_kept():
    measured = warm_up([FakeModel()], config(batching=BatchingConfig(max_batch_size=10)), NOWHERE)
    assert measured.max_batch_size == 10
    assert measured.cost_of_rows == 10


def test_batches_stop_growing_when_one_takes_too_long(monkeypatch):
    monkeypatch.setattr("inferd.repository.warmup._cost_us", lambda model, inputs, config: 2000.0 * len(inputs["x"]))
    measured = warm_up([FakeModel()], config(), NOWHERE)
    assert (measured.max_batch_size, measured.inline_rows) == (32, 0)


def test_only_the_batches_below_the_bound_run_inline(monkeypatch):
    monkeypatch.setattr("inferd.repository.warmup._cost_us", lambda model, inputs, config: 10.0 * len(inputs["x"]))
    assert warm_up([FakeModel()], config(), NOWHERE).inline_rows == 32


def test_the_largest_batch_runs_inline_too_when_it_is_no_power_of_two():
    fast = config(batching=BatchingConfig(max_batch_size=6), execution=ExecutionConfig(inline_max_us=1e6))
    assert warm_up([FakeModel()], fast, NOWHERE).inline_rows == 6


def test_user_code_never_runs_inline():
    model = FakeModel()
    model.user_code = True
    forced = config(execution=ExecutionConfig(mode="inline"))
    assert warm_up([model], forced, NOWHERE).inline_rows == 0


def test_a_model_that_cannot_be_batched_is_timed_alone():
    model = FakeModel(lambda x: np.float32([1.0]), batchable=False)
    measured = warm_up([model], config(), NOWHERE)
    assert (measured.batching, measured.max_batch_size, measured.max_batch_difference) == (False, 1, None)
    assert set(model.calls) == {1}


def test_a_difference_between_batched_and_alone_is_found():
    model = FakeModel(lambda x: x + len(x))
    assert warm_up([model], config(), NOWHERE).max_batch_difference == pytest.approx(7.0)


def test_a_model_that_answers_another_number_of_rows_must_say_it_is_not_batchable():
    with pytest.raises(LoadFailed, match="batchable = false"):
        warm_up([FakeModel(lambda x: x[:1])], config(), NOWHERE)


def test_a_model_that_fails_says_so_in_one_line():
    with pytest.raises(LoadFailed, match="the model failed in warm-up: division by zero"):
        warm_up([FakeModel(lambda x: 1 / 0)], config(), NOWHERE)


def test_a_model_that_refuses_made_up_rows_is_served_unmeasured():
    def compute(x):
        raise InvalidInput("no such rows")

    measured = warm_up([FakeModel(compute)], config(), NOWHERE)
    assert (measured.max_batch_size, measured.inline_rows, measured.cost_us) == (64, 0, 0.0)


def test_rows_of_a_warmup_file_are_used(tmp_path):
    rows = np.float32([[7, 8], [9, 10]])
    np.savez(tmp_path / "warmup.npz", x=rows)
    seen = []
    warm_up([FakeModel(lambda x: seen.append(x) or x)], config(), tmp_path / "model.bin")
    np.testing.assert_array_equal(seen[0], rows[:1])


def counted(compute=lambda x: x):
    calls = []
    return FakeModel(lambda x: calls.append(len(x)) or compute(x)), calls


def test_what_was_measured_of_the_version_before_is_taken_over_when_a_few_calls_confirm_it():
    fast = config(execution=ExecutionConfig(inline_max_us=1e6))
    before = warm_up([FakeModel()], fast, NOWHERE)
    before = replace(before, cost_us=1e6)
    model, calls = counted()
    after = warm_up([model], fast, NOWHERE, before)
    assert (after.max_batch_size, after.inline_rows) == (before.max_batch_size, before.inline_rows)
    assert after.cost_us < before.cost_us
    assert len(calls) < 40
    # One call confirms, where hundreds of each size would have been made before.
    assert calls.count(before.max_batch_size) == 1


def test_a_version_that_runs_inline_where_the_one_before_did_need_not_run_larger_batches():
    fast = config(execution=ExecutionConfig(inline_max_us=1e6))
    before = replace(warm_up([FakeModel()], fast, NOWHERE), inline_rows=64, cost_us=5e6)
    model, calls = counted()
    after = warm_up([model], fast, NOWHERE, before)
    assert (after.max_batch_size, after.inline_rows, after.cost_us) == (before.max_batch_size, 64, 5e6)
    assert max(calls) == 64


def test_a_batch_that_runs_inline_is_tried_until_it_is_fast_enough_for_the_loop(monkeypatch):
    """1.5 times what it cost before would be enough elsewhere."""
    enough = []
    monkeypatch.setattr(warmup, "_least_us", lambda model, inputs, enough_us: enough.append(enough_us) or 450.0)
    before = replace(warm_up([FakeModel()], config(), NOWHERE), cost_us=400.0, inline_rows=1024, cost_of_rows=1024)
    assert warm_up([FakeModel()], config(), NOWHERE, before).inline_rows == 1024
    assert enough == [500.0]


def test_what_was_taken_over_does_not_creep_up_from_version_to_version(monkeypatch):
    before = replace(warm_up([FakeModel()], config(), NOWHERE), cost_us=1.0, inline_rows=0)
    monkeypatch.setattr(warmup, "CONFIRMED_FACTOR", 1e9)
    assert warm_up([FakeModel()], config(), NOWHERE, before).cost_us == 1.0


def test_a_version_that_is_slower_than_the_one_before_is_measured_for_itself():
    before = replace(warm_up([FakeModel()], config(), NOWHERE), cost_us=1e-6, inline_rows=0)
    model, calls = counted()
    warm_up([model], config(), NOWHERE, before)
    assert len(calls) > 100


def test_a_version_that_no_longer_comes_below_the_inline_bound_is_measured_for_itself(monkeypatch):
    monkeypatch.setattr(warmup, "TIMED_S", 0.0)
    before = replace(warm_up([FakeModel()], config(), NOWHERE), inline_rows=2, cost_of_rows=1024)
    model, calls = counted(lambda x: time.sleep(0.001) or x)
    assert warm_up([model], config(), NOWHERE, before).inline_rows == 0
    assert max(calls) > 2


def test_a_version_that_may_no_longer_run_inline_is_measured_for_itself():
    before = replace(warm_up([FakeModel()], config(), NOWHERE), cost_us=1e9, inline_rows=1024)
    slow = config(execution=ExecutionConfig(mode="thread"))
    assert warm_up([FakeModel()], slow, NOWHERE, before).inline_rows == 0


def test_another_batch_size_is_not_taken_over_from_the_version_before():
    model = FakeModel()
    before = warm_up([model], config(), NOWHERE)
    assert warm_up([model], config(batching=BatchingConfig(max_batch_size=3)), NOWHERE, before).max_batch_size == 3


def test_inputs_that_the_artefact_brings_are_executed_instead_of_made_up_ones(tmp_path: Path):
    seen = []
    model = FakeModel(lambda x: seen.append(x.copy()) or x)
    model.example = {"x": np.full((2, 2), 7, np.float32)}
    warm_up([model], config(), NOWHERE)
    assert all((x == 7).all() for x in seen)
    np.savez(tmp_path / "warmup.npz", x=np.full((1, 2), 8, np.float32))
    seen.clear()
    warm_up([model], config(), tmp_path / "model.bin")
    assert all((x == 8).all() for x in seen)
