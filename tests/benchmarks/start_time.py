"""How long a command takes from being typed to its exit, against a coordinator on loopback that answers at once."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial

from tests.benchmarks.figures import Figure
from tests.benchmarks.rounds import in_turns
from tests.benchmarks.stage import Stage
from tests.entrypoints.small_coordinator import SmallCoordinator
from tests.support.scripted_server import serving

COMMANDS = (["--help"], ["enqueue-shell", "true"], ["jobs"], ["status"])


def measure(stage: Stage) -> Iterator[Figure]:
    """A few commands, against the start of an interpreter that does nothing."""
    with serving(SmallCoordinator().script) as server:
        env = {**os.environ, "SKYCLAW_COORDINATOR_URL": server.url}
        takes = [partial(_ms, [sys.executable, "-m", "skyclaw", *words], env) for words in COMMANDS]
        rounds = in_turns([partial(_ms, [sys.executable, "-c", ""], env), *takes], stage.scale.rounds, stage.scale.within_s)
    for column, words in enumerate(COMMANDS, 1):
        name = f"skyclaw {' '.join(words)}"
        yield Figure("start_time", name, rounds.median(column), "ms", rounds.median(0), "ms python -c ''", rounds.ratio(column, 0))


def _ms(command: list[str], env: Mapping[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - start)
