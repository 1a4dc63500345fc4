"""Search for violations in many worlds: `python -m tests.cluster.simulate --seeds 2000 --first 0`, on all processors."""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter

from tests.cluster.simulation import scenarios
from tests.cluster.simulation.checker import Violation


def examine(seed: int) -> tuple[int, str, Counter[str]]:
    """The seed, what was violated, and what happened in its world."""
    with scenarios.little_memory(seed):
        world = scenarios.made(seed)
        try:
            world.run()
        except Violation as violation:
            return seed, f"at {world.t:.0f} ms: {violation}", world.stats
    world.stats["acknowledged jobs"] = len(world.check.acked)
    return seed, "", world.stats


def main(arguments: list[str]) -> int:
    """Examine the seeds; name each that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    started, totals, bad = time.monotonic(), Counter[str](), 0
    with multiprocessing.Pool(options.processes) as pool:
        for seed, violated, stats in pool.imap_unordered(examine, range(options.first, options.first + options.seeds), chunksize=4):
            totals += stats
            if violated:
                bad += 1
                print(f"seed {seed} {violated[:400]}", flush=True)  # noqa: T201
    took = time.monotonic() - started
    print(f"{options.seeds} seeds, {bad} violations, {took:.0f} s, {options.seeds / took:.1f} seeds/s")  # noqa: T201
    print(", ".join(f"{name} {count}" for name, count in sorted(totals.items())))  # noqa: T201
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
