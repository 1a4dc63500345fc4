"""A whole host against a stand-in coordinator over real HTTP, with real processes."""

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skyclaw.entrypoints.host import RunningHost, start_host
from skyclaw.errors import ServerRefused
from tests.support.hosts import PATIENCE_S, hosting, settings, until
from tests.support.real_processes import lives
from tests.support.scripted_server import Asked, Reply
from tests.support.stand_in_coordinator import StandInCoordinator, coordinating


class Gate:
    """Lets a job wait until the test opens it; the job says that it runs by its process id."""

    def __init__(self, folder: Path, name: str) -> None:
        self._opened, self._pid = folder / f"{name}.open", folder / f"{name}.pid"
        self.args = (
            "-c",
            f"echo $$ > {self._pid}.new; mv {self._pid}.new {self._pid}; until [ -e {self._opened} ]; do sleep 0.02; done; echo ok",
        )

    def open(self) -> None:
        self._opened.touch()

    def pid(self) -> int:
        """The process, once it runs."""
        until(self._pid.exists)
        return int(self._pid.read_text())


@pytest.fixture
def coordinator() -> Iterator[StandInCoordinator]:
    with coordinating() as coordinator:
        yield coordinator


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path, "gate")


def test_a_job_is_claimed_run_and_reported(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url) as host:
        job_id = coordinator.shell("bash", "-c", "echo out; echo err >&2; exit 3")
        (result,) = coordinator.until_done(job_id)
        assert (result["success"], result["exitCode"], result["stdout"], result["stderr"]) == (False, 3, "out\n", "err\n")
        assert result["stdoutBytes"] == 4
        until(lambda: len(host.printed) == 3)
        assert host.printed == [
            f"[skyclaw] host registered: {host.running.id} (test-host)",
            f"[skyclaw] running {job_id} (shell)",
            f"[skyclaw] completed {job_id}: failed",
        ]
        assert host.results == []


def test_parallel_means_at_the_same_time(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/$1; until [ -e {tmp_path}/a ] && [ -e {tmp_path}/b ] && [ -e {tmp_path}/c ]; do sleep 0.02; done"
    with hosting(tmp_path, coordinator.url, max_parallel=3):
        jobs = [coordinator.shell("bash", "-c", script, "bash", name) for name in "abc"]
        assert all(result["success"] for result in coordinator.until_done(*jobs))
    assert coordinator.running_most == 3


def test_no_more_jobs_than_slots_are_claimed(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url, max_parallel=2):
        coordinator.until_done(*[coordinator.shell("true") for _ in range(20)])
    assert coordinator.running_most <= 2
    assert all(claim["max"] <= 2 for claim in coordinator.claims)


def test_many_results_travel_together(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url, max_parallel=32):
        coordinator.until_done(*[coordinator.shell("true") for _ in range(200)])
    assert len(coordinator.results) < 200


@pytest.mark.parametrize("why", ["cancelled", "lost"])
def test_a_job_that_is_no_longer_ours_is_killed_and_never_reported(
    coordinator: StandInCoordinator, tmp_path: Path, gate: Gate, why: str
) -> None:
    with hosting(tmp_path, coordinator.url):
        job_id, next_id = coordinator.shell("bash", *gate.args), coordinator.shell("true")
        pid = gate.pid()
        if why == "cancelled":
            coordinator.cancel(job_id)
        else:
            coordinator.take_away(job_id)
        coordinator.until_done(next_id)  # its slot is free again
        assert not lives(pid)
    assert [result["jobId"] for batch in coordinator.results for result in batch] == [next_id]
    assert coordinator.jobs[job_id].released == []


def test_a_host_that_was_forgotten_registers_again_and_loses_no_running_job(
    coordinator: StandInCoordinator, tmp_path: Path, gate: Gate
) -> None:
    with hosting(tmp_path, coordinator.url) as host:
        job_id = coordinator.shell("bash", *gate.args)
        pid = gate.pid()
        coordinator.forget_hosts()
        coordinator.until(lambda: len(coordinator.registrations) == 2)
        assert coordinator.registrations[1]["hostId"] == host.running.id
        assert [lease["jobId"] for lease in coordinator.registrations[1]["leases"]] == [job_id]
        assert lives(pid)
        gate.open()
        assert coordinator.until_done(job_id)[0]["success"]
        coordinator.until_done(coordinator.shell("true"))
    assert coordinator.jobs[job_id].attempts == 1


def test_a_result_waits_on_the_disk_while_no_coordinator_answers(coordinator: StandInCoordinator, tmp_path: Path, gate: Gate) -> None:
    with hosting(tmp_path, coordinator.url) as host:
        job_id = coordinator.shell("bash", *gate.args)
        gate.pid()
        coordinator.stop()
        gate.open()
        until(lambda: host.results)
        assert [path.name.partition(".")[0] for path in host.results] == [job_id]
        assert stat.S_IMODE(host.results[0].stat().st_mode) == 0o600
        coordinator.start()
        assert coordinator.until_done(job_id)[0]["stdout"] == "ok\n"
        until(lambda: not host.results)
    assert coordinator.jobs[job_id].attempts == 1


def test_the_next_life_of_a_host_delivers_what_the_former_could_not(coordinator: StandInCoordinator, tmp_path: Path, gate: Gate) -> None:
    with hosting(tmp_path, coordinator.url) as host:
        first_id = host.running.id
        job_id = coordinator.shell("bash", *gate.args)
        gate.pid()
        coordinator.stop()
        gate.open()
        until(lambda: host.results)
    coordinator.start()
    with hosting(tmp_path, coordinator.url) as host:
        assert coordinator.until_done(job_id)[0]["stdout"] == "ok\n"
        assert host.running.id == first_id
        until(lambda: not host.results)
        assert coordinator.until_done(coordinator.shell("true"))[0]["success"]
    assert coordinator.jobs[job_id].attempts == 1
    assert [lease["jobId"] for lease in coordinator.registrations[1]["leases"]] == [job_id]


def test_a_result_for_a_lease_that_is_over_is_dropped_once_and_for_all(
    coordinator: StandInCoordinator, tmp_path: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator.before = lambda asked: Reply(503, {"error": "busy"}) if asked.path.endswith("heartbeat") else None
    with hosting(tmp_path, coordinator.url) as host:
        job_id = coordinator.shell("bash", *gate.args)
        gate.pid()
        coordinator.take_away(job_id)
        gate.open()
        next_id = coordinator.shell("true")
        coordinator.until_done(next_id)
        until(lambda: len(coordinator.results) == 2)
        assert host.results == []
        assert f"[skyclaw] completed {job_id}: ok" not in host.printed
    assert [result["jobId"] for batch in coordinator.results for result in batch] == [job_id, next_id]
    assert f"result_dropped job={job_id} code=stale_attempt" in caplog.text


def test_a_result_that_is_too_large_is_shortened(tmp_path: Path) -> None:
    with coordinating(largest_body=20_000) as coordinator, hosting(tmp_path, coordinator.url):
        job_id, small_id = coordinator.shell("bash", "-c", "head -c 100000 /dev/zero | tr '\\0' x"), coordinator.shell("true")
        result, small = coordinator.until_done(job_id, small_id)
    assert (result["success"], result["truncated"], result["stdoutBytes"]) == (True, True, 100_000)
    assert 1_000 < len(result["stdout"]) < 20_000
    assert small["success"]


def test_a_result_that_is_never_small_enough_is_reported_as_failed_after_three_tries(tmp_path: Path) -> None:
    tries: list[int] = []

    def picky(asked: Asked) -> Reply | None:
        if asked.path.endswith("results") and b'"stdout":""' not in asked.body:
            tries.append(len(asked.body))
            return Reply(413, {"error": "too large", "code": "payload_too_large"})
        return None

    with coordinating() as coordinator, hosting(tmp_path, coordinator.url):
        coordinator.before = picky
        (result,) = coordinator.until_done(coordinator.shell("bash", "-c", "echo output"))
    assert (result["success"], result["reason"]) == (False, "result_too_large")
    assert len(tries) == 3


def test_one_result_that_is_not_taken_does_not_hold_up_the_others(tmp_path: Path) -> None:
    def picky(asked: Asked) -> Reply | None:
        if asked.path.endswith("results") and b"poison" in asked.body:
            return Reply(400, {"error": "not this", "code": "invalid"})
        return None

    with coordinating() as coordinator, hosting(tmp_path, coordinator.url, max_parallel=8):
        coordinator.before = picky
        jobs = [coordinator.shell("bash", "-c", f"echo {word}") for word in ["a", "b", "poison", "c", "d"]]
        results = coordinator.until_done(*jobs)
    assert [result["success"] for result in results] == [True, True, False, True, True]
    assert results[2]["error"] == "invalid: not this"


def test_a_drained_host_finishes_what_runs_and_takes_nothing_more(coordinator: StandInCoordinator, tmp_path: Path, gate: Gate) -> None:
    with hosting(tmp_path, coordinator.url) as host:
        job_id = coordinator.shell("bash", *gate.args)
        gate.pid()
        host.running.drain()
        coordinator.until(lambda: coordinator.hosts[host.running.id]["mode"] == "draining")
        later_id = coordinator.shell("true")
        assert not host.running.left.is_set()
        gate.open()
        assert host.running.left.wait(PATIENCE_S)
    assert coordinator.jobs[job_id].status == "completed"
    assert coordinator.jobs[later_id].status == "queued"


def test_an_idle_host_drains_at_once_even_without_a_coordinator(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url) as host:
        coordinator.stop()
        host.running.drain()
        assert host.running.left.wait(2.5)


def test_what_does_not_finish_within_the_grace_is_given_back_and_not_failed(
    coordinator: StandInCoordinator, tmp_path: Path, gate: Gate
) -> None:
    with hosting(tmp_path, coordinator.url, grace_ms=300) as host:
        job_id = coordinator.shell("bash", *gate.args)
        pid = gate.pid()
        host.running.drain()
        assert host.running.left.wait(PATIENCE_S)
        assert not lives(pid)
    job = coordinator.jobs[job_id]
    assert (job.status, job.released, job.result) == ("queued", ["host_stops"], None)


def test_a_host_that_stops_at_once_kills_what_runs_and_gives_it_back(coordinator: StandInCoordinator, tmp_path: Path, gate: Gate) -> None:
    with hosting(tmp_path, coordinator.url) as host:
        job_id = coordinator.shell("bash", *gate.args)
        pid = gate.pid()
        host.running.drain()
        began = time.monotonic()
        host.running.stop()
        assert time.monotonic() - began < 10
        assert not lives(pid)
    assert coordinator.jobs[job_id].released == ["host_stops"]


def test_a_lease_that_cannot_be_renewed_ends_the_job_in_time_and_gives_it_back_later(tmp_path: Path, gate: Gate) -> None:
    with coordinating(lease_ms=1_500) as coordinator, hosting(tmp_path, coordinator.url):
        job_id = coordinator.shell("bash", *gate.args)
        pid = gate.pid()
        coordinator.until(lambda: coordinator.jobs[job_id].renewals > 2)
        away = time.monotonic()
        coordinator.stop()
        until(lambda: not lives(pid))
        assert 1.0 < time.monotonic() - away < 1.5 + 5
        coordinator.start()
        coordinator.until(lambda: coordinator.jobs[job_id].released)
        assert coordinator.jobs[job_id].released == ["lease_not_renewed"]
        gate.open()
        assert coordinator.until_done(job_id)[0]["success"]
    assert coordinator.jobs[job_id].attempts == 2


def test_a_long_job_outlives_many_leases(tmp_path: Path, gate: Gate) -> None:
    with coordinating(lease_ms=600) as coordinator, hosting(tmp_path, coordinator.url, heartbeat_ms=60_000):
        job_id = coordinator.shell("bash", *gate.args)
        coordinator.until(lambda: coordinator.jobs[job_id].renewals >= 6)
        gate.open()
        coordinator.until_done(job_id)
    assert coordinator.jobs[job_id].attempts == 1


def test_a_dead_coordinator_is_passed_over(tmp_path: Path) -> None:
    with coordinating() as gone, coordinating() as coordinator, hosting(tmp_path, gone.url, coordinator.url):
        gone.until(lambda: gone.claims)
        gone.stop()
        coordinator.until_done(coordinator.shell("true"))
    assert len(coordinator.registrations) == 1


def test_a_claim_whose_answer_was_lost_is_repeated_and_gets_the_same_leases(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    coordinator.lose_claim_answers = 3
    job_id = coordinator.shell("true")
    with hosting(tmp_path, coordinator.url):
        coordinator.until_done(job_id)
    assert len({claim["claimId"] for claim in coordinator.claims[:4]}) == 1
    assert coordinator.jobs[job_id].attempts == 1


def test_a_coordinator_that_says_when_to_come_back_is_not_asked_earlier(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    times: list[float] = []

    def crowded(asked: Asked) -> Reply | None:
        if not asked.path.endswith("claim"):
            return None
        times.append(time.monotonic())
        return Reply(say={"job": None, "jobs": [], "retryAfterMs": 700}) if len(times) == 1 else None

    coordinator.before = crowded
    with hosting(tmp_path, coordinator.url):
        coordinator.until_done(coordinator.shell("true"))
    assert times[1] - times[0] >= 0.7


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"kind": "shell", "command": "rm", "args": ["-rf", "/"]}, "command not allowed: rm"),
        ({"kind": "teleport"}, "unknown payload kind: teleport"),
        ({"kind": "shell", "command": "true", "args": ["a\0b"]}, "payload.args must not hold a NUL character"),
        ({"kind": "openclaw-run"}, "command not allowed: openclaw-that-is-not-there"),
    ],
    ids=["command", "kind", "NUL", "openclaw"],
)
def test_what_the_host_does_not_run_fails_with_126(
    coordinator: StandInCoordinator, tmp_path: Path, payload: dict[str, Any], error: str
) -> None:
    with hosting(tmp_path, coordinator.url):
        (result,) = coordinator.until_done(coordinator.enqueue(payload))
    assert (result["success"], result["exitCode"], result["durationMs"], result["error"]) == (False, 126, 0, error)


def test_a_job_that_takes_too_long_is_ended_with_words_of_old(coordinator: StandInCoordinator, tmp_path: Path, gate: Gate) -> None:
    with hosting(tmp_path, coordinator.url):
        (result,) = coordinator.until_done(coordinator.shell("bash", *gate.args, timeoutMs=5))
    assert (result["success"], result["exitCode"], result["error"], result["timedOut"]) == (False, 1, "timed out after 1000ms", True)


def test_only_what_is_there_is_advertised(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url, max_parallel=4):
        (told,) = coordinator.registrations
    assert (told["name"], told["capabilities"], told["maxParallel"]) == ("test-host", ["shell"], 4)
    assert told["labels"]["isolation"] == "none"


def test_no_job_sees_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCLAW_TOKEN", "canary-3141")
    with coordinating() as coordinator, hosting(tmp_path, coordinator.url, token="canary-3141"):  # noqa: S106  # the test's own
        (result,) = coordinator.until_done(coordinator.shell("bash", "-c", "env; tr '\\0' '\\n' < /proc/$PPID/environ"))
    assert "canary" not in str(result)


def test_a_wrong_token_ends_the_start_with_the_coordinators_words(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    coordinator.before = lambda _: Reply(401, {"error": "unauthorized", "code": "unauthorized"})
    with pytest.raises(ServerRefused, match="unauthorized"):
        start_host(settings(tmp_path, coordinator.url))
    with coordinating() as other, hosting(tmp_path, other.url) as host:
        assert host.folder.joinpath("home/hosts/0").is_dir()  # the slot was let go
        assert not host.folder.joinpath("home/hosts/1").exists()


def test_a_host_waits_for_a_coordinator_that_is_started_later(tmp_path: Path) -> None:
    coordinator = StandInCoordinator()
    coordinator.start()
    coordinator.stop()
    started: list[RunningHost] = []
    thread = threading.Thread(target=lambda: started.append(start_host(settings(tmp_path, coordinator.url), lambda _: None)))
    thread.start()
    coordinator.start()
    try:
        coordinator.until(lambda: coordinator.registrations)
        thread.join(PATIENCE_S)
        coordinator.until_done(coordinator.shell("true"))
    finally:
        started[0].stop()
        coordinator.stop()


def test_two_hosts_on_a_machine_are_two_hosts(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url) as one, hosting(tmp_path, coordinator.url) as other:
        assert one.running.id != other.running.id


def test_a_chosen_id_is_registered(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url, host_id="rack-7") as host:
        assert host.running.id == "rack-7"
    assert list(coordinator.hosts) == ["rack-7"]


def test_a_host_leaves_no_thread_and_no_descriptor_behind(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with hosting(tmp_path, coordinator.url):
        coordinator.until_done(coordinator.shell("true"))
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with hosting(tmp_path, coordinator.url):
            coordinator.until_done(coordinator.shell("true"))
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("host-")])
    until(lambda: len(os.listdir("/proc/self/fd")) <= open_before + 2)
