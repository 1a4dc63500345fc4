"""Networks in storms, from seeds: no invariant is ever broken, and everything comes to rest. `make simulate` runs more of them."""

import random

import pytest

from tests.cluster.simulation import scenarios
from tests.cluster.simulation.adversary import Adversary
from tests.cluster.simulation.checker import Violation
from tests.cluster.simulation.world import Plan, World

SEEDS, CHUNK = 240, 20


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_invariant_is_broken(first: int) -> None:
    for seed in range(first, first + CHUNK):
        scenarios.run(seed)


@pytest.mark.parametrize("seed", [2025, 2491, 3001, 3013, 3047, 3091, 3349, 3523, 21497])
def test_a_seed_that_once_failed_is_well(seed: int) -> None:
    scenarios.run(seed)


def test_a_seed_is_the_same_world_every_time() -> None:
    first, second = scenarios.run(5), scenarios.run(5)
    assert first.stats == second.stats
    assert first.rng.random() == second.rng.random()


def test_a_tolerable_minority_may_die_for_good() -> None:
    for nodes, voters, copies, down in ((3, 3, 2, 1), (5, 5, 3, 2), (5, 3, 2, 1)):
        world = World(7, Plan(nodes, voters, copies, logs=2, down=down))
        Adversary(world)
        world.run()


def test_without_a_quorum_nothing_is_written() -> None:
    world = World(3, Plan(jobs=3, storm_ms=300))
    for name in random.Random(3).sample(world.names, 2):  # noqa: S311
        world.crash(world.coordinators[name], for_ever=True)
    with pytest.raises(Violation, match="no progress: unacknowledged"):
        world.run()
    assert not world.check.acked
