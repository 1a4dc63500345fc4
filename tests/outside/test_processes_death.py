"""When the host or its executor is killed: what they ran ends with them. Every process in here is a real one."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from skyclaw.errors import StartRefused
from skyclaw.outside.processes import Executor, Limits
from tests.support.executors import (
    QUICK,
    ROOT,
    Rig,
    a_long_time,
    children,
    nothing_left,
    reachable_directory,
    running,
    until,
    with_argument,
)
from tests.support.real_processes import ROOT as SOURCES

DAEMON = "setsid setsid env -i /bin/sleep {0} </dev/null >/dev/null 2>&1 &"

HOST = """
import sys
from contextlib import suppress
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from skyclaw.outside.processes import Executor, Limits, Order
executor = Executor(Path(sys.argv[2]), Limits(), "process", lambda ended: None)
executor.start()
for n, script in enumerate(sys.argv[3:]):
    executor.run(Order(f"run-{n}", ("/bin/sh", "-c", script), {}, None, 60_000, 1_000, "job_1"))
print("started", flush=True)
sys.stdin.read()
"""


def start_host(work: Path, *scripts: str) -> "subprocess.Popen[str]":
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(SOURCES), str(work), *scripts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "started\n"
    return host


def end_host(host: "subprocess.Popen[str]") -> None:
    host.kill()
    host.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_host_that_was_killed(number: int) -> None:
    obedient, stubborn, daemon = a_long_time(), a_long_time(), a_long_time()
    with reachable_directory() as top:
        host = start_host(
            top / "work", f"exec sleep {obedient}", f"trap '' TERM; sleep {stubborn}; sleep {stubborn}", DAEMON.format(daemon) + "sleep 50"
        )
        words = (obedient, stubborn, daemon)
        until(lambda: all(with_argument(word) for word in words))
        executors = children_of(host.pid)
        host.send_signal(number)
        host.communicate()
        until(lambda: not any(with_argument(word) for word in words), patience_s=5)
        until(lambda: all(is_gone(pid) for pid in executors), patience_s=5)
        assert list((top / "work").iterdir()) == []


def is_gone(pid: int) -> bool:
    """Whether a process ended; as a subreaper this process may have become the parent of what a killed host started."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return not Path(f"/proc/{pid}").exists()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_orders_of_a_killed_executor_are_told_and_the_next_one_runs() -> None:
    words = [a_long_time() for _ in range(3)]
    with running() as rig:
        runs = [rig.start("/bin/sleep", word) for word in words]
        until(lambda: all(with_argument(word) for word in words))
        first = rig.pid
        os.kill(first, signal.SIGKILL)
        ends = [rig.end(run) for run in runs]
        assert {(ended.exit_code, ended.signal, ended.error, ended.killed) for ended in ends} == {(137, "KILL", "executor died", None)}
        assert not any(with_argument(word) for word in words)
        assert rig.sh("echo again").stdout == "again\n"
        assert rig.pid != first
        assert [ended.run_id for ended in rig.ends].count(runs[0]) == 1


def test_what_a_killed_executor_leaves_is_ended_and_other_children_are_not() -> None:
    """Daemons that hide their environment are found; a child of the host's own that looks just like one is left alone."""
    words, own, before = [a_long_time() for _ in range(3)], a_long_time(), children()
    with nothing_left():
        child = subprocess.Popen(["/bin/sleep", own], env={}, start_new_session=True)
        try:
            with running() as rig:
                runs = [rig.shell(DAEMON.format(word) + DAEMON.format(word) + "sleep 60") for word in words]
                until(lambda: all(len(with_argument(word)) == 2 for word in words))
                os.kill(rig.pid, signal.SIGKILL)
                assert {rig.end(run).error for run in runs} == {"executor died"}
                assert not any(with_argument(word) for word in words)
                assert children() - before == {child.pid}
            assert child.poll() is None
        finally:
            child.kill()
            child.wait()


def test_a_living_executor_is_not_taken_for_what_a_dead_one_left() -> None:
    with running() as one, reachable_directory() as top:
        first = one.pid
        other = Rig(top)
        waits = other.shell("sleep 0.5; echo alive")
        os.kill(first, signal.SIGKILL)
        until(lambda: not one.executor.alive)
        assert one.run("/bin/true").exit_code == 0
        assert other.end(waits).stdout == "alive\n"
        other.executor.stop()


def test_a_job_can_kill_its_executor_but_not_get_away_by_it() -> None:
    asleep = a_long_time()
    with running() as rig:
        ended = rig.sh(f"{DAEMON.format(asleep)} kill -KILL $PPID; exec sleep {asleep}")
        assert ended.error == "executor died"
        assert not with_argument(asleep)


def test_executors_may_die_again_and_again() -> None:
    with running() as rig:
        for _ in range(5):
            assert rig.sh("kill -KILL $PPID; sleep 60").error == "executor died"
        assert rig.sh("exit 6").exit_code == 6


def test_an_executor_that_talks_nonsense_is_ended() -> None:
    asleep = a_long_time()
    with running() as rig:
        run_id = rig.start("/bin/sleep", asleep)
        until(lambda: with_argument(asleep))
        rig.executor._lives[-1]._hear({"op": "nothing known"}, [])
        rig.executor._lives[-1]._link._incoming += b"\0\0\0\x08\0\0\0\x04!!!!"
        rig.start("/bin/true")
        assert rig.end(run_id).error == "executor died"
        assert not with_argument(asleep)


# What is left on the disk.


def test_directories_of_killed_jobs_are_deleted_when_host_and_executor_died_together() -> None:
    with running() as rig:
        dead = rig.parent / "jobs-dead"
        (dead / "job/deep/er").mkdir(parents=True)
        (dead / "job/file").write_text("left")
        other = rig.parent / "of-somebody-else"
        other.mkdir()
        with nothing_left():
            second = Executor(rig.parent, QUICK, "process", lambda _: None)
            second.start()
            until(lambda: not dead.exists())
            second.stop()
        assert other.exists()
        assert rig.sh("cd && pwd").exit_code == 0
        other.rmdir()


def test_directories_of_a_living_host_are_left_alone() -> None:
    with reachable_directory() as top:
        host = start_host(top / "work", "echo > mine; sleep 60")
        try:
            mine = until(lambda: list(top.glob("work/*/*/mine")))
            with nothing_left():
                second = Executor(top / "work", QUICK, "process", lambda _: None)
                second.start()
                second.stop()
            assert [path for path in mine if path.exists()] == mine
        finally:
            executors = children_of(host.pid)
            end_host(host)
            until(lambda: all(is_gone(pid) for pid in executors))
        assert not list((top / "work").iterdir())


@pytest.mark.skipif(not ROOT, reason="only root can run jobs as another user")
def test_directories_of_another_users_killed_jobs_are_deleted_by_the_next_executor() -> None:
    with running(job_user="nobody") as rig:
        run_id = rig.shell("mkdir -m 000 locked; echo x > file; sleep 60")
        until(lambda: list(rig.parent.glob("*/*/file")))
        os.kill(rig.pid, signal.SIGKILL)
        assert rig.end(run_id).error == "executor died"
        assert list(rig.parent.glob("*/*/file"))
        assert rig.run("/bin/true").exit_code == 0
        until(lambda: not list(rig.parent.glob("*/*/file")))


# The directory for the directories.


def test_a_directory_for_jobs_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work").symlink_to(tmp_path)
    with pytest.raises(StartRefused, match="is no directory"):
        Executor(tmp_path / "work", Limits(), "process", lambda _: None).start()


def test_a_directory_for_jobs_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused, match="cannot be used"):
        Executor(tmp_path / "file/work", Limits(), "process", lambda _: None).start()


@pytest.mark.skipif(not ROOT, reason="only root can give a directory away")
def test_a_directory_for_jobs_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    shutil.chown(tmp_path / "work", "nobody")
    with pytest.raises(StartRefused, match="belongs to somebody else"):
        Executor(tmp_path / "work", Limits(), "process", lambda _: None).start()


@pytest.mark.skipif(not ROOT, reason="only root can run jobs as another user")
def test_a_directory_that_the_jobs_user_cannot_reach_is_refused() -> None:
    with reachable_directory() as top:
        top.chmod(0o700)
        with nothing_left(), pytest.raises(StartRefused, match=r"cannot run: .*Permission denied"):
            Executor(top / "work", Limits(), "process", lambda _: None, "nobody").start()
