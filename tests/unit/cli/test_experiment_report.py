import json

import numpy as np
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
min_effect = 0.05
[[guardrail]]
metric = "converted"
margin = 0.1
"""


@pytest.fixture
def definition(tmp_path):
    path = tmp_path / "ranker.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def log(tmp_path):
    """4,000 units over two days, of which a third and a half convert."""
    rng = np.random.default_rng(1)
    rows = ["unit,variant,timestamp,converted"]
    for i in range(4_000):
        converted = rng.random() < (0.5 if i % 2 else 1 / 3)
        rows.append(f"u{i},{'candidate' if i % 2 else 'control'},{i * 43.2},{int(converted)}")
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows))
    return path


def test_report_prints_the_split_the_figures_and_the_verdict(inferd, definition, log):
    code, out, err = inferd("experiment", "report", log, "--definition", definition)
    assert (code, err) == (0, "")
    assert "ranker-2: 4,000 units, 2.0 days" in out
    assert "split as planned: p = 1" in out
    assert "  better: candidate is higher by" in out
    assert "  anytime-valid 95% interval +0." in out
    assert "guardrail converted, candidate: holds" in out
    assert "units left" not in out
    assert "power" not in out


def test_report_says_what_is_left_while_nothing_is_decided(inferd, definition, log):
    """Which of two rows of the log converts says nothing of its variant."""
    lines = [line.split(",") for line in log.read_text().splitlines()]
    log.write_text(
        "\n".join(",".join([*line[:3], line[3] if i == 0 else str(i // 2 % 2)]) for i, line in enumerate(lines))
    )
    code, out, _ = inferd("experiment", "report", log, "--definition", definition)
    assert code == 0
    assert "no decision yet" in out
    assert "units left to find it at any time" in out
    assert "power for the smallest change" in out


def test_report_prints_json_and_writes_a_page(inferd, definition, log, tmp_path):
    page = tmp_path / "report.html"
    code, out, err = inferd("experiment", "report", log, "--definition", definition, "--json", "--html", page)
    assert (code, err.strip()) == (0, f"wrote {page}")
    document = json.loads(out)
    assert document["comparisons"][0]["conclusion"] == "better"
    assert document["units"] == 4_000
    assert "<svg" in page.read_text()


def test_report_reads_several_logs_as_one(inferd, definition, log, tmp_path):
    lines = log.read_text().splitlines()
    halves = tmp_path / "a.csv", tmp_path / "b.csv"
    halves[0].write_text("\n".join(lines[:2_001]))
    halves[1].write_text("\n".join([lines[0], *lines[2_001:]]))
    whole = inferd("experiment", "report", log, "--definition", definition, "--json")
    assert inferd("experiment", "report", *halves, "--definition", definition, "--json") == whole


def test_a_wrong_split_is_said_first(inferd, definition, tmp_path):
    log = tmp_path / "log.csv"
    names = ["control"] * 1_100 + ["candidate"] * 900
    log.write_text("\n".join(["unit,variant,converted", *(f"{i},{name},{i % 2}" for i, name in enumerate(names))]))
    code, out, _ = inferd("experiment", "report", log, "--definition", definition)
    assert code == 0
    assert "split NOT as planned" in out
    assert "void (p = " in out


def test_units_seen_in_two_variants_are_mentioned(inferd, definition, log):
    log.write_text(f"{log.read_text()}\nu1,control,0,1")
    _, out, _ = inferd("experiment", "report", log, "--definition", definition)
    assert "1 units were seen in several variants and are left out" in out


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("u1,candidate", "u1,candidat", "log.csv, line 3, column 'variant': 'candidat' is no variant; did you mean"),
        ("converted", "convert", "log.csv, line 1: no column 'converted'; did you mean 'convert'?"),
    ],
)
def test_a_wrong_log_is_one_line_with_its_place(inferd, definition, log, old, new, says):
    log.write_text(log.read_text().replace(old, new, 1))
    code, out, err = inferd("experiment", "report", log, "--definition", definition)
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_log_that_is_not_there_is_said(inferd, definition, tmp_path):
    code, _, err = inferd("experiment", "report", tmp_path / "none.csv", "--definition", definition)
    assert code == 1
    assert "none.csv" in err
