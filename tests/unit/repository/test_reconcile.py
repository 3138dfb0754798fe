"""The reconciler as a table of situations, and as a promise over all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.lifecycle import VersionState as S
from inferd.repository.reconcile import Attempt, Load, Unload, next_action

AVAILABLE, RESOURCE = "availability-preserving", "resource-preserving"

SITUATIONS = {
    "nothing wanted, nothing there": ({}, [], AVAILABLE, None),
    "a first version is loaded": ({1}, [], AVAILABLE, Load(1)),
    "of several, the highest comes first": ({1, 3, 2}, [], AVAILABLE, Load(3)),
    "while it loads there is nothing to do": ({1}, [Attempt(1, S.LOADING)], AVAILABLE, None),
    "others load beside it": ({1, 2}, [Attempt(2, S.WARMING)], AVAILABLE, Load(1)),
    "all is as wanted": ({1}, [Attempt(1, S.READY)], AVAILABLE, None),
    "a new version loads while the old serves": ({2}, [Attempt(1, S.READY)], AVAILABLE, Load(2)),
    "the old one waits for it": ({2}, [Attempt(1, S.READY), Attempt(2, S.LOADING)], AVAILABLE, None),
    "then the old one leaves": ({2}, [Attempt(1, S.READY), Attempt(2, S.READY)], AVAILABLE, Unload(0)),
    "a failed new version keeps the old one": ({2}, [Attempt(1, S.READY), Attempt(2, S.FAILED)], AVAILABLE, None),
    "which is tried again when its time has come": (
        {2},
        [Attempt(1, S.READY), Attempt(2, S.FAILED, retry_due=True)],
        AVAILABLE,
        Load(2),
    ),
    "what nobody wants leaves": ({}, [Attempt(1, S.READY)], AVAILABLE, Unload(0)),
    "one of two that is not wanted leaves": ({2}, [Attempt(2, S.READY), Attempt(3, S.READY)], AVAILABLE, Unload(1)),
    "a reload loads beside": ({1}, [Attempt(1, S.READY, current=False)], AVAILABLE, Load(1)),
    "a failed reload keeps the old one": (
        {1},
        [Attempt(1, S.READY, current=False), Attempt(1, S.FAILED)],
        AVAILABLE,
        None,
    ),
    "a reload that is ready takes over": (
        {1},
        [Attempt(1, S.READY, current=False), Attempt(1, S.READY)],
        AVAILABLE,
        Unload(0),
    ),
    "another ready version does not stand in for a reload": (
        {1, 2},
        [Attempt(1, S.READY, current=False), Attempt(2, S.READY), Attempt(1, S.FAILED)],
        AVAILABLE,
        None,
    ),
    "what is over is no obstacle": ({1}, [Attempt(1, S.UNLOADED)], AVAILABLE, Load(1)),
    "what is loaded and no longer wanted is given up": ({1}, [Attempt(2, S.LOADING)], AVAILABLE, Unload(0)),
    "so is what is loaded from files that were replaced": (
        {1},
        [Attempt(1, S.WARMING, current=False)],
        AVAILABLE,
        Unload(0),
    ),
    "and what waits for its turn": ({}, [Attempt(1, S.READY), Attempt(2, S.PENDING)], RESOURCE, Unload(1)),
    "with few resources the old one leaves first": ({2}, [Attempt(1, S.READY)], RESOURCE, Unload(0)),
    "and is waited for": ({2}, [Attempt(1, S.DRAINING)], RESOURCE, None),
    "before the new one loads": ({2}, [Attempt(1, S.UNLOADED)], RESOURCE, Load(2)),
}


@pytest.mark.parametrize(("desired", "attempts", "transition", "action"), SITUATIONS.values(), ids=SITUATIONS)
def test_the_next_step(desired, attempts, transition, action):
    assert next_action(frozenset(desired), attempts, transition) == action


@given(
    desired=st.frozensets(st.integers(1, 4)),
    there=st.frozensets(st.integers(1, 4)),
    broken=st.frozensets(st.integers(1, 4)),
    transition=st.sampled_from([AVAILABLE, RESOURCE]),
    order=st.randoms(use_true_random=False),
)
def test_it_comes_to_rest_and_never_leaves_a_model_without_a_version_it_could_have(
    desired, there, broken, transition, order
):
    attempts = [Attempt(version, S.READY) for version in sorted(there)]
    for _ in range(100):
        action = next_action(desired, attempts, transition)
        if isinstance(action, Load):
            attempts.append(Attempt(action.version, S.LOADING))
        elif isinstance(action, Unload):
            assert attempts[action.position].state is S.READY
            attempts[action.position] = Attempt(attempts[action.position].version, S.DRAINING)
        moving = [i for i, each in enumerate(attempts) if each.state in (S.LOADING, S.DRAINING)]
        if moving and (action is None or order.random() < 0.5):
            chosen = order.choice(moving)
            attempt = attempts[chosen]
            loaded = S.FAILED if attempt.version in broken else S.READY
            attempts[chosen] = Attempt(attempt.version, S.UNLOADED if attempt.state is S.DRAINING else loaded)
        if transition == AVAILABLE and there and desired:
            assert any(each.state is S.READY for each in attempts)
        if action is None and not moving:
            break
    else:
        raise AssertionError("it never came to rest")
    ready = {each.version for each in attempts if each.state is S.READY}
    could = (desired - broken) | (desired & there)
    assert could <= ready
    if could or not desired:
        assert ready == could
