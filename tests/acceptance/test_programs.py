"""OpenClaw and Automaton jobs: the program that the host's owner configured, with the words as they were given."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_processes import ROOT, CoordinatorProcess, HostProcess, clean_environment, wait_until

PROGRAM = ROOT / "fixtures" / "programs" / "openclaw"


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    coordinator = CoordinatorProcess(tmp_path)
    coordinator.start()
    host = HostProcess(
        tmp_path,
        coordinator.url,
        SKYCLAW_CAPABILITIES="openclaw,automaton",
        SKYCLAW_ALLOWED_COMMANDS=str(PROGRAM),
        SKYCLAW_OPENCLAW_COMMAND=PROGRAM,
        SKYCLAW_AUTOMATON_COMMAND=PROGRAM,
    )
    host.start()
    yield coordinator
    host.kill()
    coordinator.kill()


def enqueue(coordinator: CoordinatorProcess, folder: Path, *words: str) -> dict[str, object]:
    """The job that these words of the command line lead to, once it has finished."""
    env = clean_environment(folder / "cli", SKYCLAW_COORDINATOR_URL=coordinator.url)
    ran = subprocess.run([sys.executable, "-m", "skyclaw", *words], env=env, cwd=folder, capture_output=True, text=True, check=True)
    path = f"/v1/jobs/{ran.stdout.strip()}"
    return finished(coordinator, path)


def finished(coordinator: CoordinatorProcess, path: str) -> dict[str, object]:
    """The job at that path, once it has a result."""
    job: dict[str, object] = wait_until(
        lambda: (job := coordinator.get(path, waitMs=1000)["job"]).get("result") and job, "the job finishes"
    )
    return job


@pytest.mark.parametrize("verb", ["enqueue-openclaw", "enqueue-automaton"])
def test_the_words_arrive_as_they_were_typed(tmp_path: Path, coordinator: CoordinatorProcess, verb: str) -> None:
    words = ["run", "--json", "two words", "1e3", "--", ""]
    job = enqueue(coordinator, tmp_path, verb, *words)
    assert job["status"] == "completed"
    assert json.loads(job["result"]["stdout"])["words"] == words  # type: ignore[index]


def test_no_words_are_no_words(tmp_path: Path, coordinator: CoordinatorProcess) -> None:
    job = enqueue(coordinator, tmp_path, "enqueue-openclaw")
    assert json.loads(job["result"]["stdout"])["words"] == []  # type: ignore[index]


def test_a_payload_without_args_runs_the_programs_run(coordinator: CoordinatorProcess) -> None:
    job = coordinator.post("/v1/jobs", {"payload": {"kind": "openclaw-run"}, "requirement": {"requiredCapabilities": ["openclaw"]}})["job"]
    job = finished(coordinator, f"/v1/jobs/{job['id']}")
    assert json.loads(job["result"]["stdout"])["words"] == ["run"]


def test_the_program_sees_nothing_of_the_host(tmp_path: Path, coordinator: CoordinatorProcess) -> None:
    job = enqueue(coordinator, tmp_path, "enqueue-openclaw", "run")
    variables = json.loads(job["result"]["stdout"])["variables"]  # type: ignore[index]
    assert "SKYCLAW_TOKEN" not in variables
    assert "SKYCLAW_JOB_ID" in variables


def test_its_failure_is_the_jobs_failure(tmp_path: Path, coordinator: CoordinatorProcess) -> None:
    job = enqueue(coordinator, tmp_path, "enqueue-openclaw", "fail")
    assert (job["status"], job["result"]["exitCode"], job["attempts"]) == ("failed", 1, 1)  # type: ignore[index]
