"""``inferd experiment evaluate``, and simulate for bandits."""

import json
import random

import pytest

from inferd.experiments.database import open_database
from inferd.experiments.definition_store import DefinitionStore
from inferd.experiments.definition_toml import read_experiment
from inferd.experiments.events import Exposure, Feedback
from inferd.experiments.store import Store

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
baseline = 0.3
[[metric]]
name = "slow"
kind = "quantile"
[bandit]
reward = "click"
"""


@pytest.fixture
def definition(tmp_path):
    path = tmp_path / "ranker.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def log(tmp_path):
    """10% of requests went to control, which earns 0.2; the rest to the candidate, which earns 0.6."""
    draw = random.Random(0)
    rows = ["variant,propensity,click"]
    for _ in range(2000):
        is_control = draw.random() < 0.1
        click = draw.random() < (0.2 if is_control else 0.6)
        rows.append(f"{'control,0.1' if is_control else 'candidate,0.9'},{click:d}")
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows))
    return path


def evaluated(inferd, *arguments):
    code, out, err = inferd("experiment", "evaluate", *arguments, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    return found, {each["policy"]: each for each in found["policies"]}


def test_evaluate_prints_what_each_policy_would_have_earned(inferd, definition, log):
    code, out, err = inferd("experiment", "evaluate", log, "--definition", definition)
    assert (code, err) == (0, "")
    assert out.startswith("ranker-2: click of 2,000 of 2,000 predictions, 0.5")
    for words in (
        "always control",
        "always candidate",
        "by the weights",
        "doubly robust:",
        "anytime-valid 95% interval",
    ):
        assert words in out


def test_evaluate_knows_the_truth_and_takes_other_policies(inferd, definition, log):
    mixed = "control=0.25, candidate=0.75"
    _, policies = evaluated(inferd, log, "--definition", definition, "--policy", mixed)
    truths = {"always control": 0.2, "always candidate": 0.6, "by the weights": 0.4, mixed: 0.5}
    for name, truth in truths.items():
        for kind in ("weighted", "normalised", "robust"):
            assert policies[name][kind]["fixed"]["low"] < truth < policies[name][kind]["fixed"]["high"]


def test_evaluate_reads_a_store(inferd, definition, tmp_path):
    url = f"sqlite:///{tmp_path / 'e.db'}"
    experiment = read_experiment(definition)
    DefinitionStore(open_database(url)).create(experiment, "running", "")
    store = Store.open(url)
    store.add_events(
        [
            Exposure(f"p-{n}", "ranker-2", ("control", "candidate")[n % 2], f"u-{n}", False, 1000 + n, 10, "ok", 0.5)
            for n in range(1200)
        ]
    )
    told = [Feedback("click", float(n % 4 == 1), 1500, f"k-{n}", prediction_id=f"p-{n}") for n in range(800)]
    store.add_feedback(told, window_s=60, now_ms=2000)
    found, policies = evaluated(inferd, "--store", url, "--experiment", "ranker-2")
    assert (found["rewards"], found["predictions"], found["earned"]) == (800, 1200, 0.25)
    assert policies["always candidate"]["robust"]["mean"] == pytest.approx(0.5, abs=0.05)
    _, failures = evaluated(inferd, "--store", url, "--experiment", "ranker-2", "--reward", "error")
    assert failures["always control"]["robust"]["mean"] == 0


def test_evaluate_with_few_rewards_says_that_it_is_too_early(inferd, definition, tmp_path):
    log = tmp_path / "few.csv"
    log.write_text("variant,propensity,click\ncontrol,0.5,1\ncandidate,0.5,0\n")
    code, out, _ = inferd("experiment", "evaluate", log, "--definition", definition)
    assert code == 0
    assert out.count("too early: a variant that it chooses has too few rewards") == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give either LOG.csv with --definition, or --store with --experiment"),
        (("LOG",), "give either LOG.csv"),
        (("LOG", "--definition", "DEF", "--store", "sqlite:///x"), "give either LOG.csv"),
        (("--store", "sqlite:///x.db"), "give either LOG.csv"),
        (
            ("LOG", "--definition", "DEF", "--reward", "clik"),
            "'clik' is no mean or proportion of the experiment; did you",
        ),
        (("LOG", "--definition", "DEF", "--reward", "slow"), "'slow' is no mean or proportion"),
        (("LOG", "--definition", "DEF", "--policy", "contrl=1"), "'contrl' is no variant; did you mean 'control'?"),
        (("LOG", "--definition", "DEF", "--policy", "control=x"), "'x' is no share; write control=0.5"),
        (("LOG", "--definition", "DEF", "--policy", "control=0.5"), "add up to 1"),
        (("LOG", "--definition", "DEF", "--policy", "control=nan,candidate=1"), "add up to 1"),
        (("LOG", "--definition", "DEF", "--policy", "control=-1,candidate=2"), "not below 0"),
    ],
)
def test_evaluate_says_what_it_lacks(inferd, definition, log, arguments, says):
    known = {"LOG": log, "DEF": definition}
    code, _, err = inferd("experiment", "evaluate", *(known.get(each, each) for each in arguments))
    assert code == 2
    assert says in err


def test_evaluate_names_the_experiments_of_a_store(inferd, definition, tmp_path):
    url = f"sqlite:///{tmp_path / 'e.db'}"
    DefinitionStore(open_database(url)).create(read_experiment(definition), "running", "")
    code, _, err = inferd("experiment", "evaluate", "--store", url, "--experiment", "ranker")
    assert code == 2
    assert "no experiment 'ranker'; did you mean 'ranker-2'?" in err


def test_an_experiment_of_fixed_weights_needs_the_reward_named(inferd, definition, log):
    definition.write_text(
        TOML.replace('mode = "bandit"', 'unit = "api-key"').replace('[bandit]\nreward = "click"\n', "")
    )
    code, _, err = inferd("experiment", "evaluate", log, "--definition", definition)
    assert code == 2
    assert "say with --reward which metric is earned" in err
    _, policies = evaluated(inferd, log, "--definition", definition, "--reward", "click")
    assert policies["always control"]["robust"]["mean"] == pytest.approx(0.2, abs=0.1)


def test_the_report_of_a_log_leaves_bandits_to_evaluate(inferd, definition, log):
    code, _, err = inferd("experiment", "report", log, "--definition", definition)
    assert code == 2
    assert "inferd experiment evaluate" in err


def test_where_a_bandit_sends_a_unit_no_file_tells(inferd, definition):
    code, _, err = inferd("experiment", "assign", definition, "user-1")
    assert code == 2
    assert "a bandit chooses by what it has learned" in err


def test_check_says_what_a_bandit_does(inferd, definition):
    code, out, _ = inferd("experiment", "check", definition)
    assert code == 0
    assert "thompson: 10% always go by these shares, the rest by what is learned of click" in out


def test_simulate_tells_what_a_bandit_loses(inferd, definition):
    arguments = ("--units-per-day", 200, "--runs", 20, "--peeks", 20, "--lift", 0.5, "--delay", 1)
    code, out, err = inferd("experiment", "simulate", definition, *arguments)
    assert (code, err.strip()) == (0, "")
    assert "ranker-2: 20 runs of 2,800 units in 14 days, 20 looks at each, rewards known 1 days later, seed 0" in out
    assert "thompson on click: 0.3 in control, +50.0% planted" in out
    assert "the promises are kept" in out
    code, out, _ = inferd("experiment", "simulate", definition, *arguments, "--json")
    found = json.loads(out)
    assert found["regret"] < found["regret_by_weights"]


def test_a_bandit_on_what_has_no_baseline_cannot_be_simulated(inferd, definition):
    definition.write_text(TOML.replace('reward = "click"', 'reward = "error"'))
    code, _, err = inferd("experiment", "simulate", definition, "--units-per-day", 200)
    assert code == 2
    assert "no metric to simulate" in err
