"""kill -9 of a coordinator under four writing clients: nothing acknowledged is lost, no key makes two jobs."""

import itertools
import os
import random
import sys
import threading
from collections import Counter
from pathlib import Path

import requests

from tests.support.real_processes import ROOT, TOKEN, CoordinatorProcess

WRITERS = 4
ROUNDS = int(os.environ.get("KILL_ROUNDS", "20"))


class UnexpectedAnswer(Exception):
    """Neither an acknowledgement nor a request to come back."""


class Writer(threading.Thread):
    """Enqueues one job after the other, each under a key of its own, repeating it until it is acknowledged."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.url, self.stopping = f"{url}/v1/jobs", threading.Event()
        self.acknowledged: dict[str, set[str]] = {}  # key -> the job ids it was answered with
        self.failures: list[Exception] = []  # what ended the thread before it was stopped

    def run(self) -> None:
        try:
            self._write()
        except Exception as failure:  # whatever it is, the test shows it
            self.failures.append(failure)

    def _write(self) -> None:
        session = requests.Session()
        session.trust_env = False
        for number in itertools.count():
            key = f"{self.name}-{number}"
            if not self._enqueue(session, key):
                return

    def _enqueue(self, session: requests.Session, key: str) -> bool:
        body = {"payload": {"kind": "shell", "command": "true"}, "labels": {"key": key}}
        headers = {"x-skyclaw-token": TOKEN, "x-idempotency-key": key}
        while not self.stopping.is_set():
            try:
                answer = session.post(self.url, json=body, headers=headers, timeout=10)
            except requests.RequestException:
                self.stopping.wait(0.005)
                continue
            if answer.ok:
                self.acknowledged.setdefault(key, set()).add(answer.json()["job"]["id"])
                return True
            if answer.status_code != 503:
                raise UnexpectedAnswer(f"{answer.status_code}: {answer.text}")
        return False


def all_jobs(coordinator: CoordinatorProcess) -> list[dict[str, object]]:
    """Every job there is, by pages."""
    found: list[dict[str, object]] = []
    after: dict[str, object] = {}
    while True:
        page = coordinator.get("/v1/jobs", limit=1000, **after)
        found += page["jobs"]
        if "next" not in page:
            return found
        after = {"after": page["next"]}


def kill_in_rounds(coordinator: CoordinatorProcess, rounds: int) -> dict[str, set[str]]:
    """Write, kill, restart; returns what was acknowledged: key -> job ids."""
    coordinator.start()
    writers = [Writer(coordinator.url, f"w{number}") for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    draw = random.Random(7)  # noqa: S311  # when to kill is no secret
    for _ in range(rounds):
        threading.Event().wait(draw.uniform(0.02, 0.25))
        coordinator.kill()
        coordinator.start()
    for writer in writers:
        writer.stopping.set()
    for writer in writers:
        writer.join(30)
        assert not writer.is_alive()
    assert [failure for writer in writers for failure in writer.failures] == []
    return {key: ids for writer in writers for key, ids in writer.acknowledged.items()}


def lost_and_doubled(coordinator: CoordinatorProcess, acknowledged: dict[str, set[str]]) -> tuple[list[str], list[str]]:
    """Keys whose acknowledged job is not there, and keys with more than one job."""
    jobs = all_jobs(coordinator)
    there = {job["id"] for job in jobs}
    by_key = Counter(str(job["labels"]["key"]) for job in jobs)  # type: ignore[index]
    lost = [key for key, ids in acknowledged.items() if not ids <= there]
    doubled = [key for key, count in by_key.items() if count > 1] + [key for key, ids in acknowledged.items() if len(ids) > 1]
    return lost, doubled


def test_no_acknowledged_job_is_lost_and_no_key_makes_two(tmp_path: Path) -> None:
    coordinator = CoordinatorProcess(tmp_path)
    try:
        acknowledged = kill_in_rounds(coordinator, ROUNDS)
        assert len(acknowledged) > 10 * ROUNDS
        assert lost_and_doubled(coordinator, acknowledged) == ([], [])
    finally:
        coordinator.kill()


def test_an_acknowledgement_before_the_commit_would_be_found(tmp_path: Path) -> None:
    program = [sys.executable, str(Path(__file__).with_name("answers_early.py"))]
    coordinator = CoordinatorProcess(tmp_path, program, PYTHONPATH=ROOT)
    try:
        acknowledged = kill_in_rounds(coordinator, 6)
        lost, doubled = lost_and_doubled(coordinator, acknowledged)
        assert lost or doubled
    finally:
        coordinator.kill()
