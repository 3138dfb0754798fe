"""How a bandit is defined, and what is wrong with one."""

import pytest

from inferd.core.errors import ConfigError
from inferd.experiments.definition import Bandit
from inferd.experiments.definition_toml import experiment_of, read_experiment, values_of

TOML = """\
id = "ranker-2"
model = "ranker"
mode = "bandit"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "candidate"
target = "ranker@2"
[[metric]]
name = "click"
kind = "proportion"
[[metric]]
name = "revenue"
kind = "mean"
[[metric]]
name = "rate"
kind = "ratio"
denominator = "views"
[bandit]
reward = "click"
"""


@pytest.fixture
def read(tmp_path):
    """The experiment after ``old`` has become ``new``, with ``add`` at its end, which belongs to ``[bandit]``."""

    def read(old="", new="", add=""):
        assert old in TOML
        path = tmp_path / "bandit.toml"
        path.write_text((TOML.replace(old, new, 1) if old else TOML) + add)
        return read_experiment(path)

    return read


def test_a_bandit_needs_no_more_than_its_reward_and_draws_for_each_request(read):
    experiment = read()
    assert experiment.bandit == Bandit("click", "thompson", 0.1, 60.0, 30)
    assert experiment.unit == "request-id"
    assert experiment_of(values_of(experiment)) == experiment


def test_all_settings_are_read(read):
    add = """policy = "linucb"
explore = 0.05
every_s = 5
warm_up = 100
context = ["header:X-Age", "parameter:h"]
width = 2
"""
    experiment = read(add=add)
    assert experiment.bandit == Bandit("click", "linucb", 0.05, 5.0, 100, (), ("header:X-Age", "parameter:h"), 2.0)
    assert experiment_of(values_of(experiment)) == experiment
    spanned = read('reward = "click"', 'reward = "revenue"', 'policy = "ucb1"\nspan = [0, 50]')
    assert spanned.bandit.span == (0.0, 50.0)


@pytest.mark.parametrize("metric", ["error", "rejected", "latency_us"])
def test_what_is_measured_without_feedback_may_be_the_reward(read, metric):
    assert read('reward = "click"', f'reward = "{metric}"').bandit.reward == metric


@pytest.mark.parametrize(
    ("old", "new", "add", "says"),
    [
        ('[bandit]\nreward = "click"\n', "", "", ":3: a bandit needs a table [bandit] that names its reward"),
        ('mode = "bandit"', 'unit = "api-key"', "", ':20: bandit goes with mode = "bandit"'),
        ('reward = "click"', "explore = 0.1", "", "bandit lacks 'reward'"),
        ('reward = "click"', 'reward = "clik"', "", "bandit.reward is no metric: 'clik'; did you mean 'click'?"),
        ('reward = "click"', 'reward = "rate"', "", "bandit.reward is a mean or a proportion, and 'rate' a ratio"),
        ('reward = "click"', 'reward = "latency_p95_us"', "", "and 'latency_p95_us' a quantile"),
        ('reward = "click"', 'reward = "disagreement"', "", "is no metric: 'disagreement'"),
        ("", "", "explore = 0", "bandit.explore takes a number above 0 to 1, got 0"),
        ("", "", "explore = 1.1", "bandit.explore takes a number above 0 to 1"),
        ("", "", "warm_up = 4", "bandit.warm_up takes a number from 5"),
        ("", "", "every_s = 0.5", "bandit.every_s takes a number from 1"),
        ("", "", 'policy = "thomson"', 'bandit.policy takes "epsilon-greedy" or "thompson" or "ucb1" or "linucb"'),
        ("", "", 'policy = "linucb"', "bandit lacks 'context'"),
        ("", "", 'context = ["X-Age"]', "bandit.context takes header:NAME and parameter:NAME, each once, got 'X-Age'"),
        ("", "", 'context = ["header:A", "header:A"]', "each once, got 'header:A'"),
        ("", "", f"context = {[f'header:X{n}' for n in range(51)]}", "names at most 50 numbers, got 51"),
        ("", "", "span = [0, 1]", "bandit gives a span, [least, highest reward], for ucb1 on a mean, and only there"),
        ('reward = "click"', 'reward = "revenue"', 'policy = "ucb1"', "bandit gives a span"),
        ('reward = "click"', 'reward = "revenue"', 'policy = "ucb1"\nspan = [1, 1]', "bandit.span takes the least"),
        ('reward = "click"', 'reward = "revenue"', 'policy = "ucb1"\nspan = [1]', "bandit.span takes the least"),
        ("", "", "span = 7", "bandit.span takes a list of finite numbers"),
        ("", "", "polcy = 1", "unknown key 'bandit.polcy'; did you mean 'policy'?"),
        ("[bandit]", "[[guardrail]]\nmetric = 'error'\nlimit = 0.1\n[bandit]", "", "compares variants of fixed shares"),
        ("[bandit]", "[[step]]\ncoverage = 0.1\n[bandit]", "", 'step goes with mode = "ramp"'),
    ],
)
def test_a_wrong_bandit_is_refused_with_the_way_out(read, old, new, add, says):
    with pytest.raises(ConfigError) as refused:
        read(old, new, add)
    assert says in refused.value.message
