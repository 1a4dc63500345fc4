"""Which world a seed makes."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from skyclaw.cluster import replica
from skyclaw.cluster.replication import Pace
from tests.cluster.simulation.adversary import Adversary
from tests.cluster.simulation.world import Plan, World

WITH_SERVICES = (3, 6, 8)
SHAPES = [(2, 2, 2), (3, 3, 2), (3, 3, 2), (4, 1, 1), (4, 4, 2), (5, 3, 2), (5, 5, 3), (6, 3, 2)]


def scenario(seed: int) -> Plan:
    """A random network in a random storm; in some of them a minority dies for good, a log grows, or one is forced."""
    rng = random.Random(seed)  # noqa: S311
    nodes, voters, copies = rng.choice(SHAPES)
    kind = rng.choice(["plain", "plain", "plain", "stewarded", "grown", "forced"])
    if kind in ("stewarded", "grown"):
        nodes, voters, copies = rng.choice([(3, 3, 2), (4, 3, 2), (5, 3, 2), (5, 5, 3)])
    if kind == "forced":
        nodes, voters, copies = rng.choice([(4, 3, 2), (5, 3, 2), (4, 2, 2), (6, 5, 3)])
    return Plan(
        nodes=nodes,
        voters=voters,
        copies=copies,
        logs=1 if kind == "forced" else rng.randint(1, min(nodes, 3)),
        jobs=rng.randint(4, 10),
        storm_ms=1200 if kind == "forced" else rng.choice([400, 800, 1200]),
        violence=rng.choice([1, 1, 3]),
        down=rng.choice([0, 0, min(copies - 1, voters - copies)]) if kind == "plain" else 0,
        grown=kind == "grown",
        forced=kind == "forced",
        min_copies=copies if kind == "grown" else 1,
        stewarded=kind in ("stewarded", "grown"),
        pace=Pace(20, 70, 70, rng.choice([1, 1, 2, 3]), 1 << 20, rng.choice([2, 4, 8])),
    )


def storm(seed: int) -> Plan:
    """A narrower world: few nodes, no rest. Good at finding what is rare."""
    rng = random.Random(seed)  # noqa: S311
    nodes, voters, copies = rng.choice([(3, 3, 2), (4, 3, 2), (5, 3, 2), (6, 3, 2), (5, 5, 3)])
    pace = Pace(20, 70, 70, rng.choice([1, 1, 2]), 1 << 20, rng.choice([2, 4, 8]))
    return Plan(nodes, voters, copies, logs=rng.choice([1, 2]), jobs=12, storm_ms=900, violence=rng.choice([2, 4]), pace=pace)


@contextmanager
def little_memory(seed: int) -> Iterator[None]:
    """Nodes keep only a few records in memory, and tell each other only of the latest epochs."""
    kept, starts = 1 + seed % 4, 8 + seed % 5
    with mock.patch.object(replica, "KEPT_RECORDS", kept), mock.patch.object(replica, "SHAPE_STARTS", starts):
        yield


def made(seed: int, probe: bool = True) -> World:
    """The world of a seed: every other one is a storm, and in one of three there are services."""
    plan = scenario(seed) if seed % 2 else storm(seed)
    world = World(seed, replace(plan, services=2 if seed % 9 in WITH_SERVICES else 0), probe)
    Adversary(world)
    return world


def run(seed: int, probe: bool = True) -> World:
    """Run the world of a seed; raises Violation."""
    with little_memory(seed):
        return made(seed, probe).run()
