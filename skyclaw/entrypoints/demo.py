"""`skyclaw demo`: one job from the command line to its exit code and back, with real processes, in a folder that is gone afterwards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.demo_stage import HOST, DemoFailed, Stage
from skyclaw.entrypoints.interruption import Interruption
from skyclaw.entrypoints.session import Session
from skyclaw.entrypoints.waiting import FINISHED
from skyclaw.outside.coordinators import Coordinators

GREETING = "hello from decentralized skyclaw"


def demo(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """Show it; 0 only when everything happened and everything is gone. Raises DemoFailed."""
    with Interruption() as interruption, Stage(session.environ, interruption) as stage:
        job, events = _play(stage, _silent if json else rendering.show)
        if not json:
            _show_events(events)
    if json:
        rendering.show_json({"job": job, "events": events})
    else:
        rendering.show("\nThe host and the coordinator are stopped, their folder is removed: nothing is left behind.")
    return 0


def _play(stage: Stage, tell: Callable[[str], None]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Coordinator, host, job, result; the answer is the job and its events."""
    url = stage.start_coordinator()
    tell(f"A coordinator listens on {url}, with a token of its own and its database in {stage.folder}.")
    coordinators = Coordinators((url,), stage.token)
    stage.start_host(url)
    host = stage.until("the host is registered", lambda: next(iter(coordinators.get("/v1/hosts")["hosts"]), None))
    tell(f"A host has joined: {host['name']} ({host['id']}) offers {', '.join(host['capabilities'])}.\n")
    tell(f'$ skyclaw enqueue-shell bash -lc "echo {GREETING}"')
    job_id = stage.call(url, "enqueue-shell", "bash", "-lc", f"echo {GREETING}").strip()
    tell(f"{job_id}\n")
    job = stage.until("the job has finished", lambda: _finished(coordinators.get(f"/v1/jobs/{job_id}", {"waitMs": 1_000})["job"]))
    events = coordinators.get(f"/v1/jobs/{job_id}/events")["events"]
    _check(job, events)
    result = job["result"]
    tell(
        f"The host claimed and executed it in {result['durationMs']} ms, attempt {job['attempts']}, exit code {result['exitCode']}. Output:"
    )
    tell(f"  {result['stdout'].rstrip()}")
    return job, events


def _check(job: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
    """The job did what was asked, and the log says so."""
    result, types = job.get("result", {}), [event["type"] for event in events]
    if (job["status"], result.get("exitCode"), result.get("stdout")) != ("completed", 0, f"{GREETING}\n"):
        raise DemoFailed(f"the job ended otherwise than it should: {job['status']}, {job.get('error', result)}")
    if types != ["JobEnqueued", "JobLeased", "JobCompleted"]:
        raise DemoFailed(f"the log tells another story: {', '.join(types)}")


def _finished(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["status"] in FINISHED else None


def _show_events(events: Sequence[Mapping[str, Any]]) -> None:
    rendering.show("\nWhat the log holds about the job:")
    rows = [(event["seq"], event["at"], event["type"], _told(event["type"], event["data"])) for event in events]
    rendering.show_table(("POSITION", "AT", "EVENT", "DATA"), rows)


def _told(event: str, data: Mapping[str, Any]) -> str:
    """What one of the three events says, in words."""
    if event == "JobEnqueued":
        return f"{data['kind']}, requires {', '.join(data['required'])}"
    if event == "JobLeased":
        return f"to {HOST} for {data['lease_ms'] // 1000} s"
    return f"exit code {data['exit_code']} in {data['duration_ms']} ms"


def _silent(_line: str) -> None:
    """For the reader who wants JSON only."""
