"""The decisions of a ramp: a table of situations."""

from dataclasses import replace

import pytest

from inferd.experiments.definition import Guardrail, Ramp, Step
from inferd.experiments.guardrail import GuardrailCheck
from inferd.experiments.position import Position, at_position
from inferd.experiments.ramp import Evidence, decide


def check(conclusion, action="rollback", metric="error"):
    return GuardrailCheck(metric, "candidate", None, 0.05, action, 0.1, None, conclusion, f"{conclusion}: words.")


@pytest.fixture
def experiment(define):
    steps = (Step(0.05, minutes=10), Step(0.5, units=100))
    return replace(define(), mode="ramp", ramp=Ramp(), steps=steps, guardrails=(Guardrail("error", limit=0.05),))


FINE = (0.9, [check("holds")], "")
SITUATIONS = {
    "a step's time is not over": (0, 9, (50, 50), FINE, "wait", "9 of 10 minutes"),
    "its time is over and no harm was seen": (0, 10, (0, 0), FINE, "advance", "no harm was seen at 5%"),
    "harm is not excluded, but not seen either": (0, 10, (5, 5), (1, [check("no decision yet")], ""), "advance", ""),
    "too few units of one variant": (1, 99, (500, 99), FINE, "wait", "99 of 100 units"),
    "the last step is done": (1, 0, (500, 100), FINE, "promote", "every guardrail holds"),
    "not shown to hold": (1, 0, (500, 100), (1, [check("no decision yet")], ""), "wait", "not shown yet: error: no d"),
    "open, but only to be told": (1, 0, (500, 100), (1, [check("too early", "notify")], ""), "promote", ""),
    "surely broken": (0, 0, (9, 9), (1, [check("broken")], ""), "roll back", "error: broken: words."),
    "surely broken, to be held": (1, 99, (500, 500), (1, [check("broken", "hold")], ""), "hold", "error: broken"),
    "surely broken, only to be told": (0, 10, (9, 9), (1, [check("broken", "notify")], ""), "advance", ""),
    "harm goes before a wrong split": (0, 10, (9, 99), (1e-9, [check("broken")], ""), "roll back", ""),
    "a wrong split": (0, 10, (999, 500), (1e-9, [check("holds")], ""), "hold", "not of the planned sizes"),
    "nothing answers for the candidate": (
        1,
        9,
        (500, 500),
        (1, [check("holds")], "nothing is ready"),
        "hold",
        "nothing",
    ),
    "no guardrails at all": (1, 0, (100, 100), (1, [], ""), "promote", ""),
}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda name: name.replace(" ", "-"))
def test_a_situation_leads_to_one_decision(experiment, situation):
    step, minutes, units, (split_p, checks, unready), action, words = SITUATIONS[situation]
    decision = decide(experiment, step, minutes, Evidence(units, split_p, checks, unready))
    assert (decision.action, words in decision.why) == (action, True), decision


def test_a_person_may_be_left_the_last_word(experiment):
    by_hand = replace(experiment, ramp=Ramp(finish="hold"))
    decision = decide(by_hand, 1, 0, Evidence((500, 500), 1.0, [check("holds")]))
    assert decision.action == "hold"
    assert "promote it by hand" in decision.why


def test_a_position_says_the_coverage_and_a_shorter_definition_is_at_its_end(experiment):
    assert at_position(experiment, Position(0)).coverage == 0.05
    assert at_position(experiment, Position(7)).coverage == 0.5
    assert at_position(replace(experiment, steps=()), Position(7)).coverage == 1
