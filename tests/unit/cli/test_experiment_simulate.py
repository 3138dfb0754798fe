import json

import pytest

TOML = """\
id = "ranker-2"
model = "ranker"
unit = "header:X-User-Id"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "candidate"
target = "ranker@2"
[[metric]]
name = "converted"
kind = "proportion"
baseline = 0.2
[[metric]]
name = "slow"
kind = "quantile"
"""


@pytest.fixture
def definition(tmp_path):
    path = tmp_path / "ranker.toml"
    path.write_text(TOML)
    return path


def test_simulate_prints_what_the_report_gets_right(inferd, definition):
    code, out, err = inferd("experiment", "simulate", definition, "--units-per-day", 500, "--runs", 100, "--peeks", 50)
    assert (code, err.strip()) == (0, "")
    assert "ranker-2: 100 runs of 7,000 units in 14 days, 50 looks at each, seed 0" in out
    assert "converted: 0.2 in control" in out
    assert "+5.0% planted, found" in out
    assert "52 to 48 of 20,000 units, found:" in out
    assert "the promises are kept" in out


def test_a_look_at_nobody_is_no_warning(inferd, definition):
    """A warning of numpy's would be an error here."""
    code, out, err = inferd(
        *("experiment", "simulate", definition, "--units-per-day", 1, "--days", 3, "--runs", 20, "--peeks", 3)
    )
    assert (code, err.strip()) == (0, "")
    assert "20 runs of 3 units" in out


def test_simulate_gives_the_same_as_json(inferd, definition):
    code, out, _ = inferd(
        *("experiment", "simulate", definition, "--units-per-day", 500, "--runs", 50, "--peeks", 20, "--json")
    )
    found = json.loads(out)
    assert (code, found["sound"]) == (0, True)
    (converted,) = found["metrics"]
    assert converted["false_peeking"]["count"] > converted["false_anytime"]["count"]


def test_simulate_draws_from_a_log_and_says_when_a_promise_is_broken(inferd, definition, tmp_path):
    """One buyer in 2,000 makes the metric: nobody can know of it from a few hundred units."""
    definition.write_text(TOML.replace('"proportion"', '"mean"').replace("baseline = 0.2", ""))
    log = tmp_path / "log.csv"
    rows = [f"u{i},control,{100_000 if i % 2000 == 0 else 1 + i % 7 / 10},1" for i in range(10_000)]
    log.write_text("\n".join(["unit,variant,converted,slow", *rows]))
    code, out, _ = inferd(
        *("experiment", "simulate", definition, "--units-per-day", 50, "--runs", 50, "--peeks", 20),
        *("--log", log, "--lift", 1),
    )
    assert code == 1
    assert "the promises are BROKEN" in out


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("baseline = 0.2", "", "metric 'converted' needs a baseline in the definition"),
        ('kind = "proportion"\nbaseline = 0.2', 'kind = "quantile"', "no metric to simulate"),
    ],
)
def test_simulate_says_what_it_lacks(inferd, definition, old, new, reason):
    definition.write_text(TOML.replace(old, new))
    code, _, err = inferd("experiment", "simulate", definition, "--units-per-day", 50)
    assert code == 2
    assert reason in err
