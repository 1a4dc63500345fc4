"""Nothing of a job survives it, and nothing of another job is touched. Every process in here is a real one."""

import resource
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from skyclaw.outside.processes import Limits
from skyclaw.outside.sweeping import Numbers
from tests.support.executors import Rig, a_long_time, change_executors, running, sleepers, until, with_argument

# Two forks, a session of its own, no environment, none of the pipes: what a daemon does, and what wants to get away.
DAEMON = "setsid setsid env -i /bin/sleep {0} </dev/null >/dev/null 2>&1 &"
# Waits until a daemon is one: before that it is in the job's group for a while.
STARTED = r"until grep -qaP '^/bin/sleep\x00{0}\x00' /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.01; done;"

KINDS = {
    "pidfd and children": "",
    "without pidfd": "import os; del os.pidfd_open; ",
    "without children": "import skyclaw.outside.sweeping as s; s.Sweeper.__init__.__defaults__ = ('/no/such/file',); ",
    "without waitid": "import os; del os.pidfd_open; del os.waitid; ",
}


@pytest.fixture(scope="module", params=KINDS)
def shared_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An executor as it is here, and as it is on systems that have less."""
    with pytest.MonkeyPatch.context() as patch:
        change_executors(patch, KINDS[request.param])
        with running() as rig:
            yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Iterator[Rig]:
    """It runs nothing when a test begins, even if the test before failed in the middle."""
    yield shared_rig
    for run_id in shared_rig.executor.running():
        shared_rig.executor.kill(run_id, "the test is over")
        shared_rig.end(run_id)


def test_a_background_child_does_not_survive_a_success(rig: Rig) -> None:
    quiet, loud = a_long_time(), a_long_time()
    ended = rig.sh(f"sleep {quiet} </dev/null >/dev/null 2>&1 & sleep {loud} & echo done")
    assert (ended.exit_code, ended.stdout, ended.error) == (0, "done\n", None)
    assert not with_argument(quiet)
    assert not with_argument(loud)


def test_a_child_that_holds_the_pipes_delays_the_end_only_shortly(rig: Rig) -> None:
    ended = rig.sh(f"sleep {a_long_time()} & exit 5")
    assert ended.exit_code == 5
    assert ended.duration_ms < 5_000


def test_what_still_writes_when_the_first_process_has_ended_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    change_executors(monkeypatch, "import skyclaw.outside.job_loop as j; j.LINGER_S = 20; ")
    with running() as rig:
        assert rig.sh("{ sleep 0.1; echo late; } & echo early").stdout == "early\nlate\n"


def test_a_daemon_does_not_survive_its_job(rig: Rig) -> None:
    asleep = a_long_time()
    ended = rig.sh(DAEMON.format(asleep) + STARTED.format(asleep) + "echo done")
    assert (ended.exit_code, ended.stdout) == (0, "done\n")
    assert not with_argument(asleep)


def test_a_daemon_does_not_survive_a_job_that_is_killed(rig: Rig) -> None:
    asleep, waits = a_long_time(), a_long_time()
    run_id = rig.shell(f"trap '' TERM; {DAEMON.format(asleep)} sleep {waits}; sleep {waits}")
    until(lambda: sleepers(asleep) and sleepers(waits))
    rig.executor.kill(run_id, "cancelled")
    assert rig.end(run_id).signal == "KILL"
    assert not with_argument(asleep)
    assert not with_argument(waits)


def test_a_whole_tree_of_daemons_does_not_survive(rig: Rig) -> None:
    asleep = a_long_time()
    inner = f"for i in 1 2 3; do setsid /bin/sleep {asleep} & done; exec /bin/sleep {asleep}"
    script = f"for i in 1 2 3 4; do setsid env -i /bin/sh -c '{inner}' </dev/null >/dev/null 2>&1 & done; sleep 0.1"
    assert rig.sh(script).exit_code == 0
    assert not with_argument(asleep)


HOPPER = """
import os, sys
os.setsid()
while os.fork() == 0 or os._exit(0):
    pass
"""


def test_each_job_has_a_number_that_all_its_processes_have(rig: Rig) -> None:
    script = "for i in 1 2; do env -i setsid /bin/cat /proc/self/limits | grep 'realtime timeout'; done"
    first, second = (rig.sh(script).stdout.splitlines() for _ in range(2))
    assert first[0] == first[1] != second[0] == second[1]


def test_a_process_that_keeps_forking_away_is_caught(rig: Rig) -> None:
    word = a_long_time()
    script = f"{sys.executable} -I -S -c '{HOPPER}' {word} </dev/null >/dev/null 2>&1 & sleep 0.2"
    assert rig.sh(script).exit_code == 0
    until(lambda: not with_argument(word))


def test_fifty_rounds_of_daemons_leave_nothing_and_touch_no_other_job(rig: Rig) -> None:
    """Two jobs with daemons of their own run beside the rounds; what belongs to them lives exactly as long as they do."""
    others = [(a_long_time(), a_long_time()) for _ in range(2)]
    beside = [rig.shell(DAEMON.format(daemon) + f"exec sleep {waits}") for daemon, waits in others]
    until(lambda: all(sleepers(daemon) and sleepers(waits) for daemon, waits in others))
    pids = {daemon: sleepers(daemon) for daemon, _ in others}
    for _ in range(10):
        words = [a_long_time() for _ in range(5)]
        runs = [rig.shell(DAEMON.format(word) * 2 + "sleep 0.02") for word in words]
        assert [rig.end(run).exit_code for run in runs] == [0] * 5
        assert [word for word in words if with_argument(word)] == []
    assert {daemon: sleepers(daemon) for daemon, _ in others} == pids
    assert rig.executor.running() == set(beside)
    for run, (daemon, waits) in zip(beside, others, strict=True):
        rig.executor.kill(run, "enough")
        assert rig.end(run).signal == "TERM"
        assert not with_argument(daemon)
        assert not with_argument(waits)


def dead_children(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [child for child in text.split() if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"]


def test_what_a_job_leaves_behind_is_reaped_while_it_runs(rig: Rig) -> None:
    waits = a_long_time()
    run_id = rig.shell(f"for i in 1 2 3 4 5; do (sleep 0.01 &); done; exec sleep {waits}")
    until(lambda: sleepers(waits))
    until(lambda: len(Path(f"/proc/{rig.pid}/task/{rig.pid}/children").read_text().split()) == 1)
    rig.executor.kill(run_id, "enough")
    rig.end(run_id)
    assert dead_children(rig.pid) == []


def test_after_200_jobs_the_executor_has_no_child(rig: Rig) -> None:
    runs = [rig.shell("sleep 0.001 & (true &)") for _ in range(200)]
    assert {rig.end(run).exit_code for run in runs} == {0}
    assert Path(f"/proc/{rig.pid}/task/{rig.pid}/children").read_text() == ""


DISGUISED = """
import os, resource
resource.setrlimit(resource.RLIMIT_RTTIME, (5, 5))
pid = os.fork()
if pid == 0:
    os.setsid()
    for file in range(3):
        os.close(file)
    os.execv("/bin/sleep", ["sleep", "1000"])
print(pid)
"""


def test_an_orphan_that_belongs_to_no_job_is_ended_at_once(rig: Rig) -> None:
    """A process can only give itself a number that no running job has; its job sees it die."""
    script = f"orphan=$({sys.executable} -I -S -c '{DISGUISED}'); while kill -0 $orphan 2>/dev/null; do sleep 0.01; done; echo gone"
    assert rig.sh(script, timeout_ms=10_000).stdout == "gone\n"


LOWERED = """
import os, resource, sys
number = resource.getrlimit(resource.RLIMIT_RTTIME)[1] - 1
resource.setrlimit(resource.RLIMIT_RTTIME, (number, number))
pid = os.fork()
if pid == 0:
    os.setsid()
    for file in range(3):
        os.close(file)
    os.execv("/bin/sleep", ["sleep", sys.argv[1]])
print(pid)
"""


def test_a_daemon_that_counts_its_number_down_does_not_pass_for_one_of_the_next_job(rig: Rig, tmp_path: Path) -> None:
    word, daemon, waits, go = a_long_time(), a_long_time(), a_long_time(), tmp_path / "go"
    escaping = rig.shell(f"until [ -e {go} ]; do sleep 0.01; done; exec {sys.executable} -I -S -c '{LOWERED}' {word}")
    neighbour = rig.shell(DAEMON.format(daemon) + f"exec sleep {waits}")
    until(lambda: sleepers(daemon) and sleepers(waits))
    pids = sleepers(daemon) + sleepers(waits)
    go.touch()
    ended = rig.end(escaping)
    assert (ended.exit_code, ended.stdout.strip().isdigit()) == (0, True)
    until(lambda: not Path(f"/proc/{ended.stdout.strip()}").exists())
    assert sleepers(daemon) + sleepers(waits) == pids
    assert rig.executor.running() == {neighbour}
    rig.executor.kill(neighbour, "enough")
    assert rig.end(neighbour).signal == "TERM"


def test_numbers_go_down_by_steps_that_cannot_be_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    numbers = Numbers()
    given = [numbers.take() for _ in range(1_000)]
    steps = {former - later for former, later in pairwise(given)}
    assert min(steps) > 0
    assert len(steps) > 990


def test_numbers_are_unique_under_a_low_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 200))
    numbers = Numbers()
    assert [numbers.take() for _ in range(201)] == [*range(199, 0, -1), 1, 1]


def test_a_job_that_forks_without_end_is_ended_as_a_whole() -> None:
    """Bounded, because root is not: each of its processes starts another one until there are 400."""
    word = a_long_time()
    bomb = "import os, time\nn = 0\nwhile n < 400:\n    try:\n        pid = os.fork()\n    except OSError:\n        break\n"
    bomb += "    if pid == 0:\n        os.setsid()\n        time.sleep(1000)\n    n += 1\nprint(n)"
    with running(Limits(term_grace_ms=300)) as rig:
        ended = rig.run(sys.executable, "-I", "-S", "-c", bomb, word)
        assert ended.exit_code == 0
        assert not with_argument(word)


def test_a_process_that_cannot_be_ended_is_told_and_does_not_hold_the_job_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a set-uid program may be, at the level `none`. The host ends it when the executor has gone."""
    asleep = a_long_time()
    weak = "import skyclaw.outside.sweeping as s; s._ended = lambda _: False; import skyclaw.outside.job_loop as j; j._GIVE_UP_S = 0.2; "
    change_executors(monkeypatch, weak)
    with running() as rig:
        ended = rig.sh(DAEMON.format(asleep) + STARTED.format(asleep) + "echo done")
        assert (ended.exit_code, ended.stdout, ended.error) == (0, "done\n", "some of its processes cannot be ended")
        assert with_argument(asleep)
    assert not with_argument(asleep)
