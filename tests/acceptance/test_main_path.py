"""The whole path with real processes: a coordinator, hosts, the command line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_processes import CoordinatorProcess, HostProcess, clean_environment, wait_until

FINISHED = {"completed", "failed", "cancelled"}


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    process = CoordinatorProcess(tmp_path)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def host(tmp_path: Path, coordinator: CoordinatorProcess) -> Iterator[HostProcess]:
    process = HostProcess(tmp_path, coordinator.url)
    process.start()
    yield process
    process.kill()


def skyclaw(folder: Path, url: str, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """One call of the command line, in a directory of its own."""
    env = clean_environment(folder / "cli", SKYCLAW_COORDINATOR_URL=url)
    return subprocess.run(
        [sys.executable, "-m", "skyclaw", *words], env=env, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )


def enqueue(coordinator: CoordinatorProcess, *argv: str, **fields: object) -> str:
    payload = {"kind": "shell", "command": argv[0], "args": list(argv[1:])}
    job_id: str = coordinator.post("/v1/jobs", {"payload": payload, **fields})["job"]["id"]
    return job_id


def finished(coordinator: CoordinatorProcess, job_id: str) -> dict[str, object]:
    return wait_until(lambda: (job := coordinator.get(f"/v1/jobs/{job_id}", waitMs=1000)["job"])["status"] in FINISHED and job, job_id)


def test_the_quick_start_runs_for_real(tmp_path: Path, coordinator: CoordinatorProcess, host: HostProcess) -> None:
    enqueued = skyclaw(tmp_path, coordinator.url, "enqueue-shell", "bash", "-lc", "echo hello from decentralized skyclaw")
    assert enqueued.returncode == 0, enqueued.stderr
    job_id = enqueued.stdout.strip()
    assert enqueued.stdout == job_id + "\n"
    job = finished(coordinator, job_id)
    assert job["result"]["stdout"] == "hello from decentralized skyclaw\n"  # type: ignore[index]
    assert job["result"]["exitCode"] == 0  # type: ignore[index]
    types = [event["type"] for event in coordinator.get(f"/v1/jobs/{job_id}/events")["events"]]
    assert types == ["JobEnqueued", "JobLeased", "JobCompleted"]
    wait_until(lambda: f"completed {job_id}: ok" in host.printed, "the host says that it completed the job")
    assert f"running {job_id} (shell)" in host.printed


def test_run_prints_the_output_and_exits_with_the_code_of_the_job(
    tmp_path: Path, coordinator: CoordinatorProcess, host: HostProcess
) -> None:
    ran = skyclaw(tmp_path, coordinator.url, "run", "bash", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.stdout, ran.returncode) == ("out\n", 7)
    assert "err\n" in ran.stderr


def test_every_word_arrives_byte_for_byte(tmp_path: Path, coordinator: CoordinatorProcess, host: HostProcess) -> None:
    words = ["-lc", "--help", "1e3", "None", "[1,2]", "a b", "--", "{x:1}", "0x10", "", "-"]
    ran = skyclaw(tmp_path, coordinator.url, "run", "bash", "-c", 'printf "%s\\n" "$@"', "bash", *words)
    assert ran.stdout.split("\n")[:-1] == words


def test_a_long_job_whose_lease_is_renewed_runs_exactly_once(tmp_path: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path, SKYCLAW_LEASE_MS=1500)
    coordinator.start()
    host = HostProcess(tmp_path, coordinator.url, SKYCLAW_HEARTBEAT_MS=300)
    host.start()
    try:
        mark = tmp_path / "runs"
        job = finished(coordinator, enqueue(coordinator, "bash", "-c", f"echo run >> {mark}; sleep 5"))
        assert (job["status"], job["attempts"], mark.read_text()) == ("completed", 1, "run\n")
    finally:
        host.kill()
        coordinator.kill()


def test_a_killed_host_loses_its_job_to_another(tmp_path: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path, SKYCLAW_LEASE_MS=2000)
    coordinator.start()
    first, second = (HostProcess(tmp_path, coordinator.url, name=name, SKYCLAW_HEARTBEAT_MS=300) for name in ("first", "second"))
    first.start()
    try:
        job_id = enqueue(coordinator, "bash", "-c", f"[ -e {tmp_path}/again ] || {{ touch {tmp_path}/again; sleep 60; }}; echo done")
        wait_until(lambda: (tmp_path / "again").exists(), "the job runs")
        first.kill()
        second.start()
        job = finished(coordinator, job_id)
        assert (job["status"], job["attempts"]) == ("completed", 2)
    finally:
        second.kill()
        coordinator.kill()


def test_a_cancelled_job_is_stopped_where_it_runs(tmp_path: Path, coordinator: CoordinatorProcess) -> None:
    host = HostProcess(tmp_path, coordinator.url, SKYCLAW_HEARTBEAT_MS=200)
    host.start()
    try:
        job_id = enqueue(coordinator, "bash", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
        pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the job runs"))
        coordinator.post(f"/v1/jobs/{job_id}/cancel", {})
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the process is gone")
        assert coordinator.get(f"/v1/jobs/{job_id}")["job"]["status"] == "cancelled"
    finally:
        host.kill()


def test_parallel_jobs_run_at_the_same_time(tmp_path: Path, coordinator: CoordinatorProcess) -> None:
    host = HostProcess(tmp_path, coordinator.url, SKYCLAW_MAX_PARALLEL=3)
    host.start()
    try:
        meet = "touch $0; until [ -e {a} ] && [ -e {b} ] && [ -e {c} ]; do sleep 0.05; done".format(
            **{name: tmp_path / name for name in "abc"}
        )
        jobs = [enqueue(coordinator, "bash", "-c", meet, str(tmp_path / name)) for name in "abc"]
        assert [finished(coordinator, job)["status"] for job in jobs] == ["completed"] * 3
    finally:
        host.kill()


def test_a_host_outlives_its_coordinator_and_delivers_afterwards(
    tmp_path: Path, coordinator: CoordinatorProcess, host: HostProcess
) -> None:
    job_id = enqueue(coordinator, "bash", "-c", f"touch {tmp_path}/runs; sleep 1.5; echo kept")
    wait_until(lambda: (tmp_path / "runs").exists(), "the job runs")
    coordinator.kill()
    wait_until(lambda: list(tmp_path.glob(f"home-host/hosts/*/results/{job_id}.*.json")), "the job has ended and its result is kept")
    coordinator.start()
    assert finished(coordinator, job_id)["result"]["stdout"] == "kept\n"  # type: ignore[index]
    assert coordinator.get(f"/v1/jobs/{job_id}")["job"]["attempts"] == 1


def test_a_draining_host_finishes_what_it_has(tmp_path: Path, coordinator: CoordinatorProcess, host: HostProcess) -> None:
    job_id = enqueue(coordinator, "bash", "-c", f"touch {tmp_path}/runs; sleep 1; echo finished")
    wait_until(lambda: (tmp_path / "runs").exists(), "the job runs")
    assert host.stop() == 0
    assert coordinator.get(f"/v1/jobs/{job_id}")["job"]["result"]["stdout"] == "finished\n"


def test_a_second_signal_stops_the_host_and_gives_its_job_back(tmp_path: Path, coordinator: CoordinatorProcess, host: HostProcess) -> None:
    job_id = enqueue(coordinator, "bash", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the job runs"))
    assert host.process is not None
    host.process.send_signal(signal.SIGTERM)
    wait_until(lambda: coordinator.get("/v1/hosts")["hosts"][0]["mode"] == "draining", "the host drains")
    host.process.send_signal(signal.SIGTERM)
    host.process.wait(20)
    assert not Path(f"/proc/{pid}").exists()
    job = coordinator.get(f"/v1/jobs/{job_id}")["job"]
    assert (job["status"], job.get("error")) == ("queued", None)


def test_nothing_of_the_token_is_in_a_log_or_in_a_job(tmp_path: Path, coordinator: CoordinatorProcess) -> None:
    user = {"SKYCLAW_JOB_USER": "nobody"} if os.geteuid() == 0 else {}  # root's jobs can read what root can
    host = HostProcess(tmp_path, coordinator.url, **user)
    host.start()
    try:
        look = "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | sort -u; echo looked"
        job = finished(coordinator, enqueue(coordinator, "bash", "-c", look))
        shown = json.dumps(job) + coordinator.printed + host.printed
        assert "looked" in shown
        assert coordinator.env["SKYCLAW_TOKEN"][:12] not in shown
    finally:
        host.kill()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not let a process choose its CPUs")
@pytest.mark.parametrize(("setting", "cpus"), [("1", 1), ("0", None)])
def test_the_coordinator_stays_on_one_cpu_unless_told_otherwise(tmp_path: Path, setting: str, cpus: int | None) -> None:
    coordinator = CoordinatorProcess(tmp_path, SKYCLAW_COORDINATOR_ONE_CPU=setting)
    coordinator.start()
    try:
        assert coordinator.process is not None
        assert len(os.sched_getaffinity(coordinator.process.pid)) == (cpus or len(os.sched_getaffinity(0)))
    finally:
        coordinator.kill()


def test_the_coordinator_stops_cleanly_and_at_once(coordinator: CoordinatorProcess) -> None:
    assert coordinator.stop() == 0
    assert "Traceback" not in coordinator.printed
