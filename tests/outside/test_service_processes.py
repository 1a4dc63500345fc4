"""What a host gets for its orders to run services. Every process in here is a real one."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from skyclaw.outside.processes import Limits, ServiceOrder
from skyclaw.outside.rotating import end, read
from skyclaw.outside.sandbox import safe_path
from tests.support.executors import (
    QUICK,
    ROOT,
    Rig,
    a_long_time,
    command_line,
    reachable_directory,
    running,
    sleepers,
    until,
    with_argument,
)
from tests.support.real_processes import ROOT as SOURCES
from tests.support.real_processes import free_port

# Two forks, a session of its own, no environment, none of the pipes.
DAEMON = "setsid setsid env -i /bin/sleep {0} </dev/null >/dev/null 2>&1 &"
_counter = count(1)


@contextmanager
def folders(job_user: str | None = None) -> Iterator[Path]:
    """A directory with `output` and `app` in it, which belong to who runs the service."""
    with reachable_directory() as top:
        for name in ("output", "app"):
            (top / name).mkdir(mode=0o700)
            if job_user is not None:
                shutil.chown(top / name, job_user)
        yield top


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running() as rig:
        yield rig


@pytest.fixture
def top(rig: Rig) -> Iterator[Path]:
    """The service's directory; what still runs when a test is over is ended."""
    with folders() as top:
        yield top
        for run_id in rig.executor.running():
            rig.executor.kill(run_id, "the test is over")
            rig.end(run_id)


def serve(rig: Rig, top: Path, *argv: str, **fields: Any) -> str:
    """Start a service; gives the run_id."""
    run_id = f"service-{os.getpid()}-{next(_counter)}"
    order = {"env": {}, "cwd": str(top / "app"), "instance_id": "ins_1", "output": str(top / "output"), **fields}
    rig.executor.run(ServiceOrder(run_id=run_id, argv=argv, **order))
    return run_id


def shell(rig: Rig, top: Path, script: str, **fields: Any) -> str:
    return serve(rig, top, "/bin/sh", "-c", script, **fields)


def printed(top: Path) -> bytes:
    """All that is kept of the output."""
    at, found = 0, b""
    while (got := read(top / "output", at, 1 << 20))[1]:
        at, found = got[0] + len(got[1]), found + got[1]
    return found


# What it gets.


def test_a_service_gets_the_clean_environment_of_a_job_and_its_own(rig: Rig, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCLAW_TOKEN", "canary")
    run_id = serve(rig, top, "/usr/bin/env", "-0", env={"PORT": "26000", "SKYCLAW_SERVICE_NAME": "api", "GREETING": "a=b\nc é"})
    assert rig.end(run_id).exit_code == 0
    env = dict(line.split("=", 1) for line in printed(top).decode().rstrip("\0").split("\0"))
    home = env.pop("HOME")
    assert Path(home).parent.parent == rig.parent
    assert env == {
        "PATH": safe_path(os.environ["PATH"]),
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "SKYCLAW_INSTANCE_ID": "ins_1",
        "SKYCLAW_RUN_ID": run_id,
        "PORT": "26000",
        "SKYCLAW_SERVICE_NAME": "api",
        "GREETING": "a=b\nc é",
    }


def test_a_service_runs_in_its_directory_and_in_a_session_of_its_own_and_reads_nothing(rig: Rig, top: Path) -> None:
    run_id = shell(rig, top, 'pwd; cat; echo "$$ $(ps -o sid=,pgid= -p $$)"; exec sleep 0')
    rig.end(run_id)
    cwd, numbers = printed(top).decode().splitlines()
    assert cwd == str(top / "app")
    assert len(set(numbers.split())) == 1


def test_the_home_of_a_service_is_private_and_gone_with_it(rig: Rig, top: Path) -> None:
    run_id = shell(rig, top, 'echo x > "$HOME/file"; ls -ld "$HOME"; echo $HOME')
    rig.end(run_id)
    listed, home = printed(top).decode().splitlines()
    assert listed.startswith("drwx------")
    until(lambda: not Path(home).exists())


# Its end.


def test_a_service_that_exits_is_told_with_its_code_and_its_last_words(rig: Rig, top: Path) -> None:
    ended = rig.end(shell(rig, top, "echo out; echo err >&2; exit 3"))
    assert (ended.exit_code, ended.signal, ended.error, ended.killed, ended.timed_out) == (3, None, None, None, False)
    assert (ended.stdout, ended.stderr, ended.stdout_bytes, ended.stderr_bytes, ended.truncated) == ("out\nerr\n", "", 8, 0, False)
    assert printed(top) == b"out\nerr\n"
    ended = rig.end(shell(rig, top, "head -c 100000 /dev/zero; printf 'last €'", last_bytes=7))
    assert (ended.stdout, ended.stdout_bytes, ended.truncated) == ("ast €", 100_008, True)
    assert rig.end(shell(rig, top, "printf '€'", last_bytes=2)).stdout == ""


@pytest.mark.parametrize(
    ("argv", "fields", "exit_code", "error"),
    [
        (("/no/such/program",), {}, 127, "spawn /no/such/program ENOENT"),
        (("/etc/passwd",), {}, 126, "spawn /etc/passwd EACCES"),
        (("/bin/true",), {"cwd": "/no/such/folder"}, 126, "cwd /no/such/folder ENOENT"),
        (("/bin/true",), {"cwd": "relative"}, 126, "cwd relative is not absolute"),
        (("/bin/true",), {"output": "/no/such/folder"}, 126, "output /no/such/folder ENOENT"),
        (("/bin/true",), {"output": "/etc/passwd"}, 126, "output /etc/passwd ENOTDIR"),
        (("/bin/echo", "a\0b"), {}, 126, "spawn '/bin/echo': embedded null byte"),
    ],
)
def test_a_service_that_cannot_be_started_says_why(
    rig: Rig, top: Path, argv: tuple[str, ...], fields: dict[str, str], exit_code: int, error: str
) -> None:
    ended = rig.end(serve(rig, top, *argv, **fields))
    assert (ended.exit_code, ended.error) == (exit_code, error)
    assert rig.sh("echo still here").stdout == "still here\n"


def test_a_service_gets_the_grace_of_its_order_when_it_is_killed(rig: Rig, top: Path) -> None:
    """The jobs of this executor have 300 ms: with these, the last words would never come."""
    run_id = shell(rig, top, "trap 'sleep 1; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done", grace_ms=25_000)
    until(lambda: printed(top) == b"ready\n")
    rig.executor.kill(run_id, "drained")
    ended = rig.end(run_id)
    assert (ended.exit_code, ended.signal, ended.killed, ended.error) == (0, None, "drained", "killed: drained")
    assert printed(top).splitlines()[-1] == b"bye"


def test_a_service_that_ignores_term_is_killed_after_the_grace_with_all_its_daemons(rig: Rig, top: Path) -> None:
    asleep, daemon = a_long_time(), a_long_time()
    run_id = shell(rig, top, f"trap '' TERM; {DAEMON.format(daemon)} sleep {asleep}; sleep {asleep}", grace_ms=100)
    until(lambda: sleepers(asleep) and sleepers(daemon))
    rig.executor.kill(run_id, "drained")
    ended = rig.end(run_id)
    assert (ended.exit_code, ended.signal) == (137, "KILL")
    assert not with_argument(asleep)
    assert not with_argument(daemon)


def test_a_service_that_becomes_a_daemon_has_ended(rig: Rig, top: Path) -> None:
    """What it leaves behind would be nobody's; it is ended, and the host can start it again."""
    daemon = a_long_time()
    assert rig.end(shell(rig, top, DAEMON.format(daemon) + "sleep 0.1")).exit_code == 0
    assert not with_argument(daemon)


def test_services_end_together_when_the_executor_is_stopped() -> None:
    with running() as rig, folders() as top:
        words = [a_long_time() for _ in range(3)]
        for word in words:
            shell(rig, top, f"trap '' TERM; sleep {word}; sleep {word}", grace_ms=300)
        until(lambda: all(sleepers(word) for word in words))
        rig.executor.stop(25)
        assert {(ended.signal, ended.killed) for ended in rig.ends} == {("KILL", "host stopped")}
        assert not any(with_argument(word) for word in words)


# What it prints.


def test_both_streams_go_to_one_file_in_the_order_in_which_they_come(rig: Rig, top: Path) -> None:
    rig.end(shell(rig, top, "for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done"))
    assert printed(top).decode().split() == [f"{name}{i}" for i in range(1, 6) for name in ("out", "err")]


def test_a_service_that_is_started_again_goes_on_in_the_same_output(rig: Rig, top: Path) -> None:
    for word in ("first", "second"):
        rig.end(shell(rig, top, f"echo {word}"))
    assert printed(top) == b"first\nsecond\n"


def test_keeping_next_to_nothing_is_possible(rig: Rig, top: Path) -> None:
    assert rig.end(shell(rig, top, "echo hello", kept_bytes=0)).exit_code == 0
    assert printed(top) == b"ello\n"


def test_output_can_be_read_while_the_service_runs(rig: Rig, top: Path) -> None:
    shell(rig, top, f"echo hello; exec sleep {a_long_time()}")
    until(lambda: printed(top) == b"hello\n")


def test_a_gigabyte_of_output_neither_fills_the_disk_nor_ends_the_service_nor_holds_up_a_job(rig: Rig, top: Path) -> None:
    """The jobs' limit of output is 64 MiB."""
    run_id = shell(rig, top, f"head -c 1000000000 /dev/zero; echo; echo last words; exec sleep {a_long_time()}", kept_bytes=500_000)
    beside = 0
    while not printed(top).endswith(b"\nlast words\n"):
        assert rig.run("/bin/echo", "beside it").stdout == "beside it\n"
        beside += 1
    assert beside > 1
    assert end(top / "output") == 1_000_000_012
    assert sum(path.stat().st_size for path in (top / "output").iterdir()) <= 500_000
    assert rig.executor.running() == {run_id}


def test_output_that_cannot_be_written_any_more_does_not_hold_the_service_up(rig: Rig, top: Path) -> None:
    run_id = shell(rig, top, "echo x; until [ -e gone ]; do sleep 0.01; done; head -c 1000000 /dev/zero; exit 4")
    until(lambda: printed(top))
    shutil.rmtree(top / "output")
    (top / "app/gone").touch()
    ended = rig.end(run_id)
    assert (ended.exit_code, ended.stdout_bytes) == (4, 1_000_002)


# Limits, and another user.


NODE = """
const {createServer} = require("http"); const kept = [];
const server = createServer((question, answer) => { kept.push(Buffer.alloc(1000)); answer.end("hello " + kept.length); });
server.listen(process.env.PORT);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
@pytest.mark.parametrize("job_user", [None, pytest.param("nobody", marks=pytest.mark.skipif(not ROOT, reason="only root can"))])
def test_a_server_in_node_runs_under_the_limits_of_jobs(job_user: str | None) -> None:
    with running(Limits(), job_user=job_user) as rig, folders(job_user) as top:
        port = free_port()
        serve(rig, top, str(shutil.which("node")), "-e", NODE, env={"PORT": str(port)})
        with requests.Session() as session:
            session.trust_env = False
            until(lambda: rig.ends or answer(session, port) == "hello 1")
            for n in range(2, 200):
                assert answer(session, port) == f"hello {n}"
        assert rig.ends == []


def answer(session: requests.Session, port: int) -> str | None:
    with suppress(requests.ConnectionError):
        return session.get(f"http://127.0.0.1:{port}/", timeout=20).text
    return None


@pytest.mark.skipif(not ROOT, reason="only root can run services as another user")
def test_a_service_of_another_user_writes_its_output_as_that_user() -> None:
    with running(job_user="nobody") as rig, folders("nobody") as top:
        assert rig.end(shell(rig, top, "id -un; echo x > file; pwd")).exit_code == 0
        assert printed(top).decode().split() == ["nobody", str(top / "app")]
        assert {path.stat().st_uid for path in (top / "output").iterdir()} == {pwd.getpwnam("nobody").pw_uid}


@pytest.mark.skipif(not ROOT, reason="the kernel lets root have all processes it wants")
def test_a_service_can_start_processes_while_jobs_have_all_of_theirs() -> None:
    """Each may have 20, and the kernel counts all of the user's."""
    words, many = a_long_time(), "for i in $(seq {0}); do sleep {1} & done; wait"
    services = Limits(processes=20, parallel=2)
    with folders("nobody") as top, running(services, job_user="nobody") as rig, running(Limits(processes=20), job_user="nobody") as jobs:
        script = f"until [ -e go ]; do sleep 0.02; done; {many.format(15, words)}"
        run_id = shell(rig, top, script)
        jobs.shell(many.format(15, words))
        until(lambda: len(sleepers(words)) == 15)
        (top / "app/go").touch()
        until(lambda: len(sleepers(words)) == 30 or rig.ends)
        assert rig.executor.running() == {run_id}


@pytest.mark.skipif(not ROOT, reason="only root can run services as another user")
@pytest.mark.parametrize(("name", "error"), [("app", "cwd {} EACCES"), ("output", "output {} EACCES")])
def test_a_service_whose_user_may_not_use_its_folders_says_so(name: str, error: str) -> None:
    with running(job_user="nobody") as rig, folders("nobody") as top:
        shutil.chown(top / name, "root")
        ended = rig.end(shell(rig, top, "echo never"))
        assert (ended.exit_code, ended.error) == (126, error.format(top / name))


@pytest.mark.skipif(not ROOT, reason="only root can run services as another user")
def test_a_service_may_read_but_not_write_a_folder_for_output_of_somebody_else() -> None:
    with running(job_user="nobody") as rig, folders("nobody") as top:
        shutil.chown(top / "output", "root")
        (top / "output").chmod(0o755)
        assert rig.end(shell(rig, top, "echo never")).error == f"output {top / 'output'} EACCES"


# When the host or the executor dies.


HOST = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from skyclaw.outside.processes import Executor, Limits, ServiceOrder
work, output = sys.argv[2:4]
executor = Executor(Path(work), Limits(), "process", print)
executor.start()
for n, script in enumerate(sys.argv[4:]):
    executor.run(ServiceOrder(f"run-{n}", ("/bin/sh", "-c", script), {}, "/", f"ins_{n}", output, grace_ms=600_000))
print("started", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_service_survives_a_host_that_was_killed(number: int) -> None:
    obedient, stubborn, daemon = a_long_time(), a_long_time(), a_long_time()
    scripts = [f"exec sleep {obedient}", f"trap '' TERM; sleep {stubborn}; sleep {stubborn}", DAEMON.format(daemon) + "sleep 500"]
    with folders() as top:
        host = subprocess.Popen(
            [sys.executable, "-c", HOST, str(SOURCES), str(top / "work"), str(top / "output"), *scripts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert host.stdout is not None
        assert host.stdout.readline() == "started\n"
        words = (obedient, stubborn, daemon)
        until(lambda: all(sleepers(word) for word in words))
        executors = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()
        host.send_signal(number)
        host.communicate()
        until(lambda: not any(with_argument(word) for word in words))
        until(lambda: not any(b"skyclaw.outside.executor" in command_line(pid) for pid in executors))
        until(lambda: not list((top / "work").iterdir()))
        reap(executors)


def reap(pids: list[str]) -> None:
    """As a subreaper this process may have become the parent of what a killed host started."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(int(pid), 0)


def test_the_services_of_a_killed_executor_are_told_and_gone_and_the_next_one_goes_on() -> None:
    asleep, daemon = a_long_time(), a_long_time()
    with running() as rig, folders() as top:
        run_id = shell(rig, top, f"echo one; {DAEMON.format(daemon)} exec sleep {asleep}")
        until(lambda: sleepers(asleep) and sleepers(daemon) and printed(top))
        os.kill(rig.pid, signal.SIGKILL)
        ended = rig.end(run_id)
        assert (ended.exit_code, ended.signal, ended.error) == (137, "KILL", "executor died")
        assert not with_argument(asleep)
        assert not with_argument(daemon)
        assert rig.end(shell(rig, top, "echo two")).exit_code == 0
        assert printed(top) == b"one\ntwo\n"


def test_the_executor_for_jobs_and_the_one_for_services_do_not_touch_each_other() -> None:
    with running() as jobs, folders() as top:
        jobs_pid, waits, daemon = jobs.pid, a_long_time(), a_long_time()
        services = Rig(jobs.parent, QUICK)
        try:
            run_id = shell(services, top, f"{DAEMON.format(daemon)} exec sleep {waits}")
            until(lambda: sleepers(waits) and sleepers(daemon))
            pids = sleepers(waits) + sleepers(daemon)
            os.kill(jobs_pid, signal.SIGKILL)
            until(lambda: not jobs.executor.alive)
            assert jobs.sh("echo again").stdout == "again\n"
            assert sleepers(waits) + sleepers(daemon) == pids
            assert services.executor.running() == {run_id}
        finally:
            services.executor.stop()
        assert not with_argument(daemon)
        assert jobs.executor.alive
