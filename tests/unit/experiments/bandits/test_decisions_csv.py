"""Decisions from CSV, and what is wrong with a file."""

import numpy as np
import pytest

from inferd.core.errors import MalformedRequest
from inferd.experiments.bandits.decisions_csv import read_csv_decisions
from inferd.experiments.definition import Metric

CLICK = Metric("click", "proportion", "clicked")
LOG = """unit,variant,propensity,clicked,timestamp,X-Age
a,v1,0.25,1,1700000060,33
b,v0,0.75,false,1700000000,
a,v0,0.75,,1700000120,40.5
"""


@pytest.fixture
def read(tmp_path, bandit):
    def read(*texts, experiment=None):
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"log{number}.csv")
            files[-1].write_text(text)
        return read_csv_decisions(files, experiment or bandit(CLICK, context=("header:X-Age",)), CLICK)

    return read


def test_rows_are_in_the_order_in_which_they_were_decided(read):
    found = read(LOG)
    assert found.arm.tolist() == [0, 1, 0]
    assert found.propensity.tolist() == [0.75, 0.25, 0.75]
    assert found.unit[1] == found.unit[2] != found.unit[0]
    assert found.values["click"][:2].tolist() == [0, 1]
    assert np.isnan(found.values["click"][2])
    assert np.isnan(found.context[0, 0])
    assert found.context[1:, 0].tolist() == [33, 40.5]
    assert found.days == pytest.approx(120 / 86_400)


def test_only_variant_propensity_and_reward_are_needed(read):
    found = read("propensity,clicked,variant\n0.5,1,v1\n0.5,0,v1\n", "variant,propensity,clicked\nv0,1,0\n")
    assert found.arm.tolist() == [1, 1, 0]
    assert len(set(found.unit)) == 3
    assert found.time_s is None
    assert np.isnan(found.context).all()


def test_an_empty_log_has_no_decisions(read):
    assert len(read("variant,propensity,clicked\n").arm) == 0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("propensity,", "propensty,", "line 1: the column 'propensity' is missing; did you mean 'propensty'?"),
        ("clicked,", "variant,", "line 1: the column 'variant' is there twice"),
        ("0.25", "0", "line 2: propensity '0' is no chance above 0, up to 1"),
        ("0.25", "1.5", "line 2: propensity '1.5' is no chance"),
        ("v1", "v9", "line 2: 'v9' is no variant; known: v0, v1"),
        ("false", "no", "line 3: 'no' is no finite number"),
        (",1,1700", ",1e99,1700", "line 2: clicked '1e99' is too far from 1"),
        ("1700000060", "noon", "line 2: 'noon' is neither ISO 8601"),
        (",33", ",33,7", "line 2: 7 values under 6 columns"),
        (",33", ",old", "line 2: 'old' is no finite number"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(read, old, new, says):
    with pytest.raises(MalformedRequest) as refused:
        read(LOG.replace(old, new, 1))
    assert says in refused.value.message
