"""What a host gets for its orders. Every process in here is a real one."""

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.errors import StartRefused
from skyclaw.outside.processes import Executor, Limits, Order
from tests.support.executors import QUICK, Rig, a_long_time, children, reachable_directory, running, until, with_argument


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running() as rig:
        yield rig


# How a process ends.


def test_a_process_that_exits_well_has_code_0_and_no_error(rig: Rig) -> None:
    ended = rig.sh("echo out; echo err >&2")
    assert (ended.exit_code, ended.signal, ended.error, ended.killed, ended.timed_out) == (0, None, None, None, False)
    assert (ended.stdout, ended.stderr, ended.stdout_bytes, ended.stderr_bytes, ended.truncated) == ("out\n", "err\n", 4, 4, False)
    assert 0 <= ended.duration_ms < 10_000


@pytest.mark.parametrize("code", [1, 77, 126, 127, 255])
def test_an_exit_code_is_told_as_it_is_without_an_error(rig: Rig, code: int) -> None:
    ended = rig.sh(f"exit {code}")
    assert (ended.exit_code, ended.signal, ended.error) == (code, None, None)


@pytest.mark.parametrize(("name", "code"), [("SEGV", 139), ("TERM", 143), ("KILL", 137), ("USR1", 138), ("PIPE", 141), ("HUP", 129)])
def test_a_process_that_a_signal_ended_has_128_and_the_number(rig: Rig, name: str, code: int) -> None:
    ended = rig.sh(f"kill -{name} $$; sleep 60")
    assert (ended.exit_code, ended.signal, ended.error) == (code, name, None)


def test_a_real_time_signal_is_named_by_its_number(rig: Rig) -> None:
    ended = rig.sh("kill -40 $$; sleep 60")
    assert (ended.exit_code, ended.signal) == (168, "40")


def test_a_command_that_is_not_there_ends_with_127(rig: Rig) -> None:
    ended = rig.run("/no/such/program", "x")
    assert (ended.exit_code, ended.error, ended.stdout, ended.duration_ms) == (127, "spawn /no/such/program ENOENT", "", ended.duration_ms)


def test_a_file_that_cannot_be_executed_ends_with_126(rig: Rig) -> None:
    assert rig.run("/etc/passwd").error == "spawn /etc/passwd EACCES"
    assert rig.run("/etc/passwd").exit_code == 126


def test_arguments_that_no_process_can_be_given_end_with_126(rig: Rig) -> None:
    assert rig.run("/bin/echo", "a\0b").exit_code == 126
    assert rig.run("/bin/echo", "\ud800").exit_code == 126
    assert rig.run("/bin/echo", "x" * 300_000).error == "spawn /bin/echo E2BIG"


def test_arguments_arrive_byte_for_byte(rig: Rig) -> None:
    words = ("--help", "a b", "", "$HOME", "é漢\n", "-n")
    assert rig.run("/usr/bin/printf", "%s|", *words).stdout == "".join(f"{word}|" for word in words)


# Time.


def test_a_process_is_ended_by_term_when_its_time_is_up(rig: Rig) -> None:
    ended = rig.run("/bin/sleep", a_long_time(), timeout_ms=100)
    assert (ended.exit_code, ended.signal, ended.timed_out, ended.killed) == (143, "TERM", True, None)
    assert ended.error == "timed out after 100ms"
    assert 100 <= ended.duration_ms < 5_000


def test_one_that_ignores_term_is_killed_after_the_grace(rig: Rig) -> None:
    asleep = a_long_time()
    ended = rig.sh(f"trap '' TERM; sleep {asleep}; sleep {asleep}", timeout_ms=100)
    assert (ended.exit_code, ended.signal, ended.timed_out, ended.error) == (137, "KILL", True, "timed out after 100ms")
    assert 400 <= ended.duration_ms < 5_000
    assert not with_argument(asleep)


def test_one_that_answers_term_with_an_exit_keeps_its_code_and_its_last_words(rig: Rig) -> None:
    ended = rig.sh("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done", timeout_ms=300)
    assert (ended.exit_code, ended.signal, ended.timed_out, ended.stdout) == (3, None, True, "ready\nbye\n")


def test_a_stopped_process_is_ended_too(rig: Rig) -> None:
    assert rig.sh("kill -STOP $$", timeout_ms=100).signal == "KILL"


# Killing.


def test_a_killed_process_is_told_with_the_reason(rig: Rig) -> None:
    asleep = a_long_time()
    run_id = rig.start("/bin/sleep", asleep)
    until(lambda: with_argument(asleep))
    rig.executor.kill(run_id, "cancelled")
    rig.executor.kill(run_id, "a second reason")
    ended = rig.end(run_id)
    assert (ended.exit_code, ended.signal, ended.killed, ended.timed_out, ended.error) == (
        143,
        "TERM",
        "cancelled",
        False,
        "killed: cancelled",
    )


def test_an_order_can_be_killed_right_after_it_was_given(rig: Rig) -> None:
    run_id = rig.start("/bin/sleep", a_long_time())
    rig.executor.kill(run_id, "cancelled")
    assert rig.end(run_id).killed == "cancelled"


def test_to_kill_what_does_not_run_changes_nothing(rig: Rig) -> None:
    run_id = rig.start("/bin/true")
    rig.end(run_id)
    rig.executor.kill(run_id, "late")
    rig.executor.kill("nobody", "never")
    assert rig.sh("exit 4").exit_code == 4


# Input.


def test_without_input_a_process_reads_nothing(rig: Rig) -> None:
    assert rig.run("/bin/cat").exit_code == 0


def test_input_arrives_whole_however_long_it_is(rig: Rig) -> None:
    text = bytes(range(256)) * 8_192
    assert rig.run("/usr/bin/sha256sum", stdin=text).stdout == f"{hashlib.sha256(text).hexdigest()}  -\n"


def test_empty_input_is_an_end_of_file(rig: Rig) -> None:
    assert rig.sh("wc -c", stdin=b"").stdout.strip() == "0"


def test_input_that_nobody_reads_holds_nothing_up(rig: Rig) -> None:
    big = b"x" * 4_000_000
    assert rig.run("/bin/true", stdin=big).exit_code == 0
    assert rig.sh("exec <&-; sleep 0.05; echo done", stdin=big).stdout == "done\n"


# Output.


def test_output_beyond_the_limit_loses_its_middle_and_is_counted(rig: Rig) -> None:
    ended = rig.sh("seq 1 100000; echo end >&2", max_output_bytes=200)
    assert ended.stdout.startswith("1\n2\n3\n")
    assert ended.stdout.endswith("99999\n100000\n")
    assert "\n[output truncated]\n" in ended.stdout
    assert len(ended.stdout) == 200
    assert (ended.truncated, ended.stdout_bytes, ended.stderr) == (True, 588_895, "end\n")


def test_output_that_is_not_utf_8_is_replaced(rig: Rig) -> None:
    ended = rig.sh(r"printf 'a\377b\303\251'")
    assert (ended.stdout, ended.stdout_bytes, ended.truncated) == ("a\ufffdbé", 5, False)


def test_one_that_writes_too_much_is_killed_for_it() -> None:
    with running(Limits(output_bytes=1_000_000, term_grace_ms=300)) as rig:
        ended = rig.sh("yes >&2 & yes", max_output_bytes=1_000)
    assert (ended.killed, ended.error, ended.truncated) == ("output", "output exceeded 1000000 bytes", True)
    assert ended.stdout_bytes + ended.stderr_bytes > 1_000_000
    assert max(len(ended.stdout), len(ended.stderr)) == 1_000


def resident_kib(pid: int | str, kind: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def test_200_megabytes_of_output_need_little_memory() -> None:
    with running(Limits(output_bytes=None)) as rig:
        rig.sh("head -c 1000000 /dev/zero", max_output_bytes=128_000)
        before = resident_kib(rig.pid, "VmHWM"), resident_kib("self", "VmRSS")
        ended = rig.sh("head -c 200000000 /dev/zero", max_output_bytes=128_000)
        after = resident_kib(rig.pid, "VmHWM"), resident_kib("self", "VmRSS")
    assert (ended.exit_code, ended.stdout_bytes, len(ended.stdout.encode())) == (0, 200_000_000, 128_000)
    assert all(now - then < 20_000 for now, then in zip(after, before, strict=True))


# Directories.


def test_a_job_has_an_empty_directory_of_its_own_that_is_gone_afterwards(rig: Rig) -> None:
    ended = rig.sh("pwd; stat -c %a .; ls -A; touch x; mkdir -p a/b; touch a/b/c")
    where, mode = ended.stdout.split()
    assert mode == "700"
    assert Path(where).parent.parent == rig.parent
    until(lambda: not Path(where).exists())


def test_a_relative_directory_is_made_inside_the_jobs_own(rig: Rig) -> None:
    ended = rig.sh('pwd; echo "$HOME"', cwd="some/where")
    cwd, home = ended.stdout.split()
    assert cwd == f"{home}/some/where"


@pytest.mark.parametrize("cwd", ["..", "../x", "a/../../x"])
def test_a_relative_directory_never_leads_out(rig: Rig, cwd: str) -> None:
    ended = rig.sh("pwd", cwd=cwd)
    assert (ended.exit_code, ended.error, ended.stdout) == (126, f"cwd not allowed: {cwd}", "")


def test_an_absolute_directory_is_used_as_it_is(rig: Rig, tmp_path: Path) -> None:
    assert rig.sh("pwd", cwd=str(tmp_path)).stdout == f"{tmp_path}\n"
    assert tmp_path.exists()


def test_an_absolute_directory_that_is_not_there_ends_with_126(rig: Rig, tmp_path: Path) -> None:
    ended = rig.sh("pwd", cwd=f"{tmp_path}/nowhere")
    assert (ended.exit_code, ended.error) == (126, f"cwd {tmp_path}/nowhere ENOENT")


# Orders and their ends.


def test_orders_run_in_parallel(rig: Rig, tmp_path: Path) -> None:
    """Each waits for all the others: one after the other they would wait for ever."""
    script = "touch $PWD/$N; until [ $(ls | wc -l) = 12 ]; do sleep 0.01; done"
    runs = [rig.shell(script, cwd=str(tmp_path), env={"N": str(n)}) for n in range(12)]
    assert rig.executor.running() >= set(runs)
    assert [rig.end(run).exit_code for run in runs] == [0] * 12


def test_each_end_is_told_once_and_then_the_order_is_not_running_any_more(rig: Rig) -> None:
    runs = [rig.shell(f"exit {n % 7}") for n in range(100)]
    assert [rig.end(run).exit_code for run in runs] == [n % 7 for n in range(100)]
    assert sorted(ended.run_id for ended in rig.ends if ended.run_id in runs) == sorted(runs)
    assert not rig.executor.running()


def test_a_run_id_cannot_run_twice_at_once(rig: Rig) -> None:
    run_id = rig.start("/bin/sleep", a_long_time())
    with pytest.raises(ValueError, match="running already"):
        rig.start("/bin/true", run_id=run_id)
    rig.executor.kill(run_id, "enough")
    rig.end(run_id)


def test_a_failing_listener_does_not_keep_others_from_hearing() -> None:
    heard = []

    def listen(ended: object) -> None:
        heard.append(ended)
        raise RuntimeError("the listener's own fault")

    with reachable_directory() as top:
        executor = Executor(top, QUICK, "process", listen)
        for n in range(3):
            executor.run(Order(f"run-{n}", ("/bin/true",), {}, None, 5_000, 100, "job_1"))
        until(lambda: len(heard) == 3)
        assert not executor.running()
        executor.stop()


# The executor's own life.


def test_stop_ends_what_runs_tells_it_and_ends_the_executor() -> None:
    asleep = a_long_time()
    with running() as rig:
        runs = [rig.start("/bin/sleep", asleep) for _ in range(5)]
        until(lambda: len(with_argument(asleep)) == 5)
        assert rig.executor.alive
        rig.executor.stop()
        assert not rig.executor.alive
        assert [rig.end(run, patience_s=0).killed for run in runs] == ["host stopped"] * 5
    assert not with_argument(asleep)


def test_an_order_after_the_stop_is_told_as_not_run() -> None:
    with running() as rig:
        rig.executor.stop()
        ended = rig.run("/bin/true")
        assert (ended.exit_code, ended.error) == (1, "executor died: it was stopped")
        rig.executor.start()
        assert rig.run("/bin/true").exit_code == 0


def test_stop_may_be_called_by_the_listener() -> None:
    with reachable_directory() as top:
        done = threading.Event()

        def listen(_: object) -> None:
            executor.stop()
            done.set()

        executor = Executor(top, QUICK, "process", listen)
        executor.run(Order("run-1", ("/bin/true",), {}, None, 5_000, 100, "job_1"))
        assert done.wait(10)
        until(lambda: not any(top.iterdir()))


def test_stop_is_in_time_even_when_the_executor_does_not_answer() -> None:
    asleep = a_long_time()
    with running() as rig:
        run_id = rig.start("/bin/sleep", asleep)
        until(lambda: with_argument(asleep))
        os.kill(rig.pid, signal.SIGSTOP)
        began = time.monotonic()
        rig.executor.stop(timeout_s=0.3)
        assert time.monotonic() - began < 5
        assert rig.end(run_id, patience_s=0).error == "executor died"
        assert not with_argument(asleep)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_a_terminal_or_a_supervisor_sends_do_not_end_the_executor(rig: Rig, number: int) -> None:
    asleep = a_long_time()
    run_id = rig.start("/bin/sh", "-c", "sleep 0.2; echo still here", asleep)
    until(lambda: with_argument(asleep))
    os.killpg(rig.pid, number)
    assert rig.end(run_id).stdout == "still here\n"
    assert rig.executor.alive


def test_jobs_do_not_inherit_how_the_executor_treats_signals(rig: Rig) -> None:
    lines = dict(line.split(":\t") for line in rig.run("/bin/cat", "/proc/self/status").stdout.splitlines() if line.startswith("Sig"))
    own_of_the_c_library = 0b11 << 31
    assert int(lines["SigIgn"], 16) | own_of_the_c_library == own_of_the_c_library
    assert int(lines["SigBlk"], 16) == int(lines["SigCgt"], 16) == 0


def test_jobs_inherit_no_descriptor_but_the_three(rig: Rig) -> None:
    other = rig.start("/bin/sleep", a_long_time())
    assert rig.sh("ls /proc/$$/fd").stdout.split() == ["0", "1", "2"]
    rig.executor.kill(other, "enough")
    rig.end(other)


def test_the_executor_starts_from_a_directory_with_a_package_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skyclaw.py", "json.py", "selectors.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with running() as rig:
        assert rig.run("/bin/true").exit_code == 0


def test_the_executor_is_small(rig: Rig) -> None:
    assert resident_kib(rig.pid, "VmRSS") < 32_000


def test_an_executor_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    before = children()
    with reachable_directory() as top:
        executor = Executor(top, QUICK, "process", lambda _: None)
        with pytest.raises(StartRefused, match="died at its start"):
            executor.start()
        assert not list(top.iterdir())
    assert children() == before


def test_an_order_is_told_when_no_executor_can_be_started_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as rig:
        rig.executor.stop()
        rig.executor._stopped = False  # as after the executor's death
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        ended = rig.run("/bin/true")
        assert ended.error is not None
        assert ended.error.startswith("executor died: ")


@pytest.mark.parametrize("level", ["", "bubblewrap", "Process"])
def test_a_level_that_is_not_there_is_refused(tmp_path: Path, level: str) -> None:
    with pytest.raises(StartRefused, match="isolation level"):
        Executor(tmp_path, QUICK, level, lambda _: None)
