"""Whether a deep queue is as quick as a shallow one: cycles of enqueue, claim and report, on queues that stay as deep as they are."""

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.filling import fill
from tests.benchmarks.loads import Load, cycle
from tests.benchmarks.rounds import in_turns
from tests.benchmarks.stage import HEADERS, Stage, address, memory_bytes

CLIENTS = 8
STEPS = ("enqueue", "claim", "report")
ROOM = 1_000_000  # jobs beyond the deepest queue


def measure(stage: Stage) -> Iterator[Figure]:
    """The deepest against the shallowest; the databases are filled through the store."""
    scale, child = stage.scale, stage.child()
    coordinators = []
    for depth in scale.depths:
        folder = stage.folder("depth")
        took = child.call(fill, folder / "coordinator.db", depth, 0, 0)
        coordinators.append(stage.coordinator(folder, SKYCLAW_MAX_QUEUED_JOBS=max(scale.depths) + ROOM))
    yield Figure("depth", f"filling {scale.depths[-1]:,} jobs through the store", took, "s")
    places = list(map(address, coordinators))
    steps: dict[int, list[tuple[float, ...]]] = {}

    def rate(number: int) -> float:
        load: Load = child.call(cycle, places[number], HEADERS, CLIENTS, scale.seconds * 1.5)
        steps.setdefault(number, []).append(load.step_s)
        return load.rate

    columns = range(len(places))
    rounds = in_turns([partial(rate, number) for number in columns], scale.rounds, scale.within_s * 1.5)
    for number in columns[1:]:
        yield Figure(
            "depth",
            f"enqueue, claim, report at depth {scale.depths[number]:,}",
            rounds.median(number),
            "cycles/s",
            rounds.median(0),
            f"at {scale.depths[0]:,}",
            rounds.ratio(number, 0),
            Target(0.9) if number == columns[-1] else None,
        )
    for place, name in enumerate(STEPS):
        deep, shallow = (sorted(times[place] for times in steps[number])[len(steps[number]) // 2] * 1000 for number in (columns[-1], 0))
        yield Figure(
            "depth",
            f"{name}, p50 of {CLIENTS} clients at depth {scale.depths[-1]:,}",
            deep,
            "ms",
            shallow,
            f"at {scale.depths[0]:,}",
            deep / shallow,
        )
    grown = memory_bytes(coordinators[-1]) - memory_bytes(coordinators[0])
    yield Figure("depth", f"memory for each of {scale.depths[-1]:,} queued jobs", grown / (scale.depths[-1] - scale.depths[0]) / 1000, "kB")
