"""How soon a waiting host has a job, and what many waiting hosts cost the others."""

from collections.abc import Iterator
from functools import partial
from statistics import median

from tests.benchmarks.children import Child
from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.loads import JOB, Load, flood
from tests.benchmarks.parked_hosts import be_hosts, round_trips
from tests.benchmarks.rounds import in_turns
from tests.benchmarks.stage import HEADERS, Stage, address
from tests.benchmarks.wire import Address, request

HOSTS: dict[int, Target | None] = {1: None, 50: Target(3, most=True), 200: Target(5, most=True)}
CLIENTS = 8
ELSEWHERE = request("POST", "/v1/jobs", {**JOB, "requirement": {"requiredCapabilities": ["elsewhere"]}}, HEADERS)


def measure(stage: Stage) -> Iterator[Figure]:
    """Each number of hosts has a coordinator of its own; another one, without hosts, is what they are held against."""
    child, quiet = stage.child(), address(stage.coordinator())
    for count, target in HOSTS.items():
        with stage.scene() as scene:
            crowded = address(scene.coordinator())
            hosts = scene.keep(partial(Child, be_hosts, crowded, HEADERS, count))
            hosts.answer()
            yield _latency(scene, hosts, child, quiet, count, target)
            if count == max(HOSTS):
                yield _traffic(scene, child, crowded, quiet, count)


def _latency(stage: Stage, hosts: Child, child: Child, quiet: Address, count: int, target: Target | None) -> Figure:
    samples = stage.scale.samples
    takes = [lambda: median(hosts.ask(samples)) * 1000, lambda: median(child.call(round_trips, quiet, HEADERS, samples)) * 1000]
    rounds = in_turns(takes, stage.scale.rounds, stage.scale.within_s)
    name = f"enqueue to start, p50, {count} host{'s' * (count > 1)} waiting"
    return Figure("waiting_hosts", name, rounds.median(0), "ms", rounds.median(1), "ms enqueue", rounds.ratio(0, 1), target)


def _traffic(stage: Stage, child: Child, crowded: Address, quiet: Address, count: int) -> Figure:
    def rate(place: Address) -> float:
        load: Load = child.call(flood, place, ELSEWHERE, CLIENTS, stage.scale.seconds)
        return load.rate

    rounds = in_turns([partial(rate, crowded), partial(rate, quiet)], stage.scale.rounds, stage.scale.within_s)
    name = f"enqueue, {CLIENTS} clients, {count} hosts waiting"
    return Figure("waiting_hosts", name, rounds.median(0), "jobs/s", rounds.median(1), "with none", rounds.ratio(0, 1), Target(0.8))
