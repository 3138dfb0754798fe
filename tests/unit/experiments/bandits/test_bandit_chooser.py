"""What a request of a bandit gets, and that the chance it is logged with is the true one."""

from collections import Counter

import numpy as np
import pytest

from inferd.experiments.bandits.chooser import Chooser
from inferd.experiments.bandits.learned import Learned, chances
from inferd.experiments.bandits.linear import Linear
from inferd.experiments.definition import Metric

REVENUE = Metric("revenue", "mean", "revenue")
CONTEXT = ("header:X-Age", "parameter:hour")
RISING = Linear((50.0, 12.0), (10.0, 6.0), ((0.0, -1.0, 0.0), (0.0, 1.0, 0.0)), (((0.0,) * 3,) * 3,) * 2, 1.0)
LINEAR = Learned((100, 100), (1.0, 1.0), (5000, 5000), RISING)


class Request:
    """Headers and a body, which is all that is read."""

    def __init__(self, body=b"{}", **headers):
        self.body = body
        self.headers = {name.replace("_", "-").lower().encode(): value.encode() for name, value in headers.items()}


def test_variants_come_as_often_as_the_logged_chance_says(bandit):
    experiment = bandit(arms=3)
    chooser = Chooser(experiment, Learned((9, 9, 9), (0.0, 0.0, 0.0), (1000, 6500, 2500)))
    choices = [chooser.choose(Request(), f"draw-{number}") for number in range(20_000)]
    assert {(each.variant.name, each.propensity) for each in choices} == {("v0", 0.1), ("v1", 0.65), ("v2", 0.25)}
    counts = Counter(each.variant.name for each in choices)
    for name, share in (("v0", 0.1), ("v1", 0.65), ("v2", 0.25)):
        assert counts[name] / 20_000 == pytest.approx(share, abs=0.015)


def test_the_same_draw_gives_the_same_variant_until_something_is_learned(bandit):
    before = Chooser(bandit(), None)
    after = Chooser(bandit(), Learned((9, 9), (0.0, 0.0), (1000, 9000)))
    draws = [f"unit-{number}" for number in range(200)]
    assert [before.choose(Request(), each) for each in draws] == [before.choose(Request(), each) for each in draws]
    moved = [
        (before.choose(Request(), each).variant.name, after.choose(Request(), each).variant.name) for each in draws
    ]
    assert ("v0", "v1") in moved
    assert ("v1", "v0") not in moved


@pytest.mark.parametrize(
    ("age", "hour", "best"),
    [("30", b"7", "v0"), ("70", b"7", "v1"), ("70", b'"7"', "v1"), ("70.5", b"true", "v1")],
)
def test_linucb_takes_what_is_best_for_this_request(bandit, age, hour, best):
    experiment = bandit(REVENUE, "linucb", explore=0.1, context=CONTEXT)
    chooser = Chooser(experiment, LINEAR)
    request = Request(b'{"parameters": {"hour": %b}}' % hour, X_Age=age)
    choices = [chooser.choose(request, str(number)) for number in range(400)]
    assert Counter(each.variant.name for each in choices).most_common(1)[0][0] == best
    assert {(each.variant.name, each.propensity) for each in choices} == {
        (name, 0.95 if name == best else 0.05) for name in ("v0", "v1")
    }
    assert choices[0].context == (float(age), 1.0 if hour == b"true" else 7.0)
    expected = chances(experiment, LINEAR, np.array([choices[0].context]))
    assert {each.variant.name: each.propensity for each in choices} == dict(zip(("v0", "v1"), expected[0], strict=True))


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"{}", X_Age="70"),
        Request(b'{"parameters": {"hour": 7}}'),
        Request(b'{"parameters": {"hour": 7}}', X_Age="seventy"),
        Request(b'{"parameters": {"hour": 7}}', X_Age="nan"),
        Request(b'{"parameters": {"hour": 1e400}}', X_Age="70"),
        Request(b'{"parameters": {"hour": [7]}}', X_Age="70"),
        Request(b'{"parameters": {"hour": null}}', X_Age="70"),
        Request(b"no JSON", X_Age="70"),
    ],
    ids=range(8),
)
def test_a_request_that_lacks_a_part_of_the_context_goes_by_the_weights(bandit, request_):
    chooser = Chooser(bandit(REVENUE, "linucb", context=CONTEXT), LINEAR)
    choices = [chooser.choose(request_, str(number)) for number in range(300)]
    assert {(each.variant.name, each.propensity) for each in choices} == {("v0", 0.5), ("v1", 0.5)}
    assert np.isnan(choices[0].context).any()


def test_before_anything_is_learned_linucb_goes_by_the_weights_and_logs_the_context(bandit):
    chooser = Chooser(bandit(REVENUE, "linucb", context=("header:X-Age",)), None)
    choice = chooser.choose(Request(X_Age="33"), "x")
    assert (choice.propensity, choice.context) == (0.5, (33.0,))
