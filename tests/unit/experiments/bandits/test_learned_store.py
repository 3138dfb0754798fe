"""What bandits have learned, in both databases: put in place once, kept, and told."""

import pytest

from inferd.experiments.bandits.learned import Learned
from inferd.experiments.database import open_database
from inferd.experiments.definition_store import DefinitionStore, Standing

FIRST = Learned((50, 60), (0.1, 0.2), (2000, 8000))
SECOND = Learned((70, 90), (0.1, 0.2), (1000, 9000))
EVEN, MOVED = {"v0": 0.5, "v1": 0.5}, {"v0": 0.2, "v1": 0.8}


@pytest.fixture
def stores(url, bandit):
    """Two servers' views of one database in which a bandit runs."""
    engines = [open_database(url), open_database(url)]
    stores = [DefinitionStore(engine) for engine in engines]
    stores[0].create(bandit(), "running", "")
    yield stores
    for engine in engines:
        engine.dispose()


def stood(store):
    """Where the experiment stands, as a server sees it."""
    (stored,) = store.all()
    return Standing(stored.id, stored.position, False)


def learn(store, seen, learned):
    return store.learn(seen, learned.text(), (EVEN, MOVED), "bandit", "why")


def test_of_two_servers_that_learn_at_once_one_puts_it_in_place(stores):
    one, other = stores
    seen = stood(one)
    last = one.last_change()
    assert learn(one, seen, FIRST).position.learned == FIRST.text()
    assert learn(other, seen, SECOND) is None
    assert other.last_change() > last
    assert Learned.of(stood(other).position.learned) == FIRST
    assert [each.what for each in one.history("e", 10)] == ["learned", "created"]
    change = other.history("e", 1)[0]
    assert (change.before, change.after, change.why) == ({"shares": EVEN}, {"shares": MOVED}, "why")


def test_what_was_learned_outlives_a_stop(stores):
    one, other = stores
    learn(one, stood(one), FIRST)
    one.set_state("e", "stopped", "", "enough")
    assert learn(one, stood(one), SECOND) is None
    assert Learned.of(other.set_state("e", "running", "", "").position.learned) == FIRST
