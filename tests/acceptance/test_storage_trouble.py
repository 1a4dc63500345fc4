"""A real coordinator on a disk that is full, read-only, damaged or taken: nothing acknowledged is lost, and one line says what to do."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_processes import CoordinatorProcess, clean_environment, wait_until

needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of its own; run the tests as root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def enqueue(coordinator: CoordinatorProcess, text: str = "") -> tuple[int, dict[str, object]]:
    """One job with a payload of that size; status and body of the answer."""
    body = {"payload": {"kind": "shell", "command": "true", "args": [text]}}
    answer = coordinator.session.post(f"{coordinator.url}/v1/jobs", json=body, timeout=30)
    return answer.status_code, answer.json()


def job_ids(coordinator: CoordinatorProcess) -> set[str]:
    return {job["id"] for job in coordinator.get("/v1/jobs", limit=1000)["jobs"]}


@needs_mount
def test_a_full_disk_refuses_writes_loses_nothing_and_recovers(tmp_path: Path, small_disk: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path, SKYCLAW_DB_PATH=small_disk / "coordinator.db")
    coordinator.start()
    try:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(1024 * 1024))
        acknowledged = set()
        while (answer := enqueue(coordinator, "x" * 20_000))[0] == 200:
            acknowledged.add(answer[1]["job"]["id"])  # type: ignore[index]
        assert (answer[0], answer[1]["code"]) == (507, "storage_full")
        assert acknowledged == job_ids(coordinator)
        ballast.unlink()
        wait_until(lambda: enqueue(coordinator)[0] == 200, "writes go on")
        after = job_ids(coordinator)
        assert acknowledged < after
        coordinator.kill()
        coordinator.start()
        assert job_ids(coordinator) == after
    finally:
        coordinator.kill()


@needs_mount
def test_a_disk_that_becomes_read_only_serves_reads(tmp_path: Path, small_disk: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path, SKYCLAW_DB_PATH=small_disk / "coordinator.db")
    coordinator.start()
    try:
        job = enqueue(coordinator)[1]["job"]
        coordinator.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        coordinator.start()
        assert job_ids(coordinator) == {job["id"]}  # type: ignore[index]
        status, body = enqueue(coordinator)
        assert (status, body["code"]) == (503, "storage_readonly")
        health = coordinator.get("/health")
        assert (health["ok"], health["ready"]) == (True, False)
        assert any("read-only" in sentence for sentence in health["degraded"])
    finally:
        coordinator.kill()


def start_fails(folder: Path, database: Path) -> str:
    """Start a coordinator on that database; it must end with exit code 3 and one line, which is returned."""
    env = clean_environment(folder / "home", SKYCLAW_DB_PATH=database, SKYCLAW_COORDINATOR_PORT=0, SKYCLAW_COORDINATOR_HOST="127.0.0.1")
    ran = subprocess.run(
        [sys.executable, "-m", "skyclaw", "coordinator"], env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in ran.stderr.splitlines() if line.startswith("[skyclaw]")]
    assert (ran.returncode, ran.stdout, len(said)) == (3, "", 1), ran.stderr
    assert "Traceback" not in ran.stderr
    return said[0]


@pytest.fixture
def used_database(tmp_path: Path) -> Path:
    coordinator = CoordinatorProcess(tmp_path)
    coordinator.start()
    for _ in range(5):
        enqueue(coordinator)
    coordinator.stop()
    return tmp_path / "coordinator.db"


def test_a_truncated_database_is_refused_and_left_alone(tmp_path: Path, used_database: Path) -> None:
    content = used_database.read_bytes()
    used_database.write_bytes(content[: len(content) // 2])
    assert "database is damaged" in start_fails(tmp_path, used_database)
    assert used_database.read_bytes() == content[: len(content) // 2]


def test_a_changed_event_is_named(tmp_path: Path, used_database: Path) -> None:
    with sqlite3.connect(used_database) as connection:
        connection.execute("UPDATE event SET data = replace(data, 'true', 'evil') WHERE seq = 3")
    connection.close()
    content = used_database.read_bytes()
    line = start_fails(tmp_path, used_database)
    assert "database is damaged" in line
    assert "/3" in line
    assert used_database.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    content = path.read_bytes()
    assert str(path) in start_fails(tmp_path, path)
    assert path.read_bytes() == content
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == ["other.db"]


def test_an_event_of_a_newer_version_is_refused(tmp_path: Path, used_database: Path) -> None:
    with sqlite3.connect(used_database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer" in start_fails(tmp_path, used_database)


def test_a_second_coordinator_on_the_same_database_is_told_who_has_it(tmp_path: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path)
    coordinator.start()
    try:
        assert coordinator.process is not None
        line = start_fails(tmp_path, tmp_path / "coordinator.db")
        assert f"locked by pid {coordinator.process.pid}" in line
        assert enqueue(coordinator)[0] == 200
    finally:
        coordinator.kill()


def test_twenty_parallel_requests_with_one_key_make_one_job_also_after_a_restart(tmp_path: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path)
    coordinator.start()
    try:
        bodies: list[object] = []
        gate = threading.Barrier(20)

        def send() -> object:
            return coordinator.post("/v1/jobs", {"payload": {"kind": "shell", "command": "true"}}, **{"x-idempotency-key": "k"})

        def send_with_the_others() -> None:
            gate.wait()
            bodies.append(send())

        threads = [threading.Thread(target=send_with_the_others) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        coordinator.kill()
        coordinator.start()
        assert bodies == [send()] * 20
        assert len(job_ids(coordinator)) == 1
    finally:
        coordinator.kill()
