"""Which requests are traced, with settings of the server and of models."""

import pytest

from inferd.telemetry.sampling import Sampler


@pytest.fixture
def sampler():
    return Sampler()


def traced(sampler, model, requests):
    """Which of so many requests are traced."""
    result = []
    for number in range(requests):
        if sampler.wants(model):
            sampler.took(model)
            result.append(number)
    return result


def test_every_request_is_traced_at_first(sampler):
    assert traced(sampler, "m", 3) == [0, 1, 2]


def test_a_models_own_settings_leave_the_others_alone(sampler):
    sampler.change("m", {"rate": 2})
    sampler.change("off", {"on": False})
    assert traced(sampler, "m", 6) == [1, 3, 5]
    assert traced(sampler, "off", 6) == []
    assert traced(sampler, "other", 3) == [0, 1, 2]


def test_what_a_model_has_not_of_its_own_follows_the_server(sampler):
    sampler.change("m", {"rate": 2})
    sampler.change("", {"on": False, "rate": 3})
    assert traced(sampler, "m", 6) == []
    sampler.change("m", {"on": True})
    assert traced(sampler, "m", 6) == [1, 3, 5]
    assert traced(sampler, "other", 6) == []
    assert [sampler.setting(name, "m") for name in ("on", "rate", "count")] == [True, 2, -1]


def test_a_setting_that_is_cleared_is_the_servers_again(sampler):
    sampler.change("", {"rate": 3})
    sampler.change("m", {"rate": 1, "count": 1})
    assert traced(sampler, "m", 3) == [0]
    sampler.change("m", {"rate": None, "count": None})
    assert (sampler.setting("rate", "m"), sampler.setting("count", "m")) == (3, -1)
    sampler.change("", {"rate": None})
    assert sampler.setting("rate", "m") == sampler.setting("rate") == 1


def test_a_models_count_is_its_own_and_the_servers_is_shared(sampler):
    sampler.change("", {"count": 3})
    sampler.change("m", {"count": 1})
    assert traced(sampler, "m", 4) == [0]
    assert traced(sampler, "a", 2) == [0, 1]
    assert traced(sampler, "b", 4) == [0]
    assert (sampler.setting("count", "m"), sampler.setting("count", "b")) == (0, 0)
