"""What a job gets from the executor when it is started."""

import os
from contextlib import suppress

from skyclaw.outside.processes import Limits
from tests.support.executors import a_long_time, running, sleepers, until


def test_jobs_start_although_the_executor_has_more_open_than_they_may() -> None:
    """Each gets three descriptors, whatever numbers they have in the executor."""
    waits, jobs = a_long_time(), 40
    with running(Limits(term_grace_ms=300, files=32, processes=None)) as rig:
        for n in range(jobs):
            rig.start("/bin/sleep", waits, stdin=b"input" if n % 2 else None)
        until(lambda: rig.ends or len(sleepers(waits)) == jobs)
        assert rig.ends == []
        assert len(files(rig.pid)) > 32
        assert {tuple(kinds_of_files(pid)) for pid in sleepers(waits)} == {("/dev/null", "pipe", "pipe"), ("pipe", "pipe", "pipe")}


def test_the_executor_holds_nothing_of_a_job_that_has_ended() -> None:
    """Its output would have no end otherwise."""
    with running() as rig:
        assert rig.run("/bin/true").exit_code == 0
        before = pipes(rig.pid)
        assert rig.run("/bin/cat", stdin=b"input").stdout == "input"
        assert pipes(rig.pid) == before


def pipes(pid: int) -> set[str]:
    return {file for file in files(pid).values() if file.startswith("pipe:")}


def kinds_of_files(pid: int) -> list[str]:
    assert files(pid).keys() == {0, 1, 2}
    return [file.partition(":")[0] for _, file in sorted(files(pid).items())]


def files(pid: int) -> dict[int, str]:
    """What a process has open, by descriptor."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # it has just been closed
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found
