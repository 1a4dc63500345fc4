"""The verbs about one job or one host: look at it, or change it; and `explain`, which takes a service too."""

import sys
import uuid
from collections.abc import Sequence
from typing import Any

from skyclaw.entrypoints import listings, rendering, services
from skyclaw.entrypoints.finding import find_host, find_job, find_job_or_service
from skyclaw.entrypoints.session import Session
from skyclaw.entrypoints.waiting import FINISHED, cut_output, failure
from skyclaw.errors import UsageWrong
from skyclaw.outside.paths import host_path, job_path


def status(session: Session, words: Sequence[str], json: bool = False) -> int:
    """One job, or everything at a glance."""
    if not words:
        return listings.overview(session, json)
    job = find_job(session.coordinators, words[0])
    if json:
        rendering.show_json(job)
    else:
        rendering.show_facts(_job_facts(job))
    return 0


def logs(session: Session, words: Sequence[str], stream: str = "", raw: bool = False, json: bool = False) -> int:
    """What a job wrote: stdout to stdout, stderr to stderr."""
    if stream not in ("", "stdout", "stderr"):
        raise UsageWrong(f"--stream={stream} is neither stdout nor stderr")
    job = find_job(session.coordinators, words[0])
    answer = session.coordinators.get(job_path(job["id"], "log"))
    result = job.get("result") or {}
    if json:
        rendering.show_json({**answer, **{name: result[name] for name in ("truncated", "stdoutBytes", "stderrBytes") if name in result}})
        return 0
    for name, target in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if stream in ("", name):
            rendering.pour(str(answer.get(name, "")), target, raw)
    if not answer.get("finished", True):
        rendering.say(f"the job has not finished, its output comes at its end; wait for it with: skyclaw wait {job['id']}")
    for sentence in filter(None, (_nothing_kept(job, answer), cut_output(job))):
        rendering.say(sentence)
    return 0


def _nothing_kept(job: dict[str, Any], log: dict[str, Any]) -> str:
    """Why there is no output, when no host has reported any."""
    if log.get("stdout") or log.get("stderr") or not (job["status"] == "cancelled" or job.get("reason") == "exhausted"):
        return ""
    return f"{job['status']}{f' ({error})' if (error := job.get('error')) else ''}; no output was kept"


def explain(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Why a job is where it is, or a service is as it is."""
    found = find_job_or_service(session.coordinators, words[0])
    if "payload" not in found:
        return services.explain(session, found, json)
    answer = session.coordinators.get(job_path(found["id"], "explain"))
    if json:
        rendering.show_json(answer)
        return 0
    for reason in answer["reasons"]:
        rendering.show(rendering.safe_line(reason))
    if answer.get("hosts") and answer["status"] not in FINISHED:
        rows = [(host["name"], "yes" if host["can"] else "no", host["reason"]) for host in answer["hosts"]]
        rendering.show_table(("HOST", "CAN", "REASON"), rows, {"HOST": 12, "REASON": 20})
    return 0


def cancel(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Cancel a job."""
    return _change_job(session, words[0], "cancel", json)


def retry(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Queue a failed or cancelled job again."""
    return _change_job(session, words[0], "retry", json)


def pause(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Give a host no more work for now."""
    return _change_host(session, words[0], "pause", json)


def resume(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Give a host work again."""
    return _change_host(session, words[0], "resume", json)


def drain(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Let a host finish what it has."""
    return _change_host(session, words[0], "drain", json)


def _change_job(session: Session, typed: str, change: str, as_json: bool) -> int:
    job_id = find_job(session.coordinators, typed)["id"]
    job = session.coordinators.post(job_path(job_id, change), {}, key=uuid.uuid4().hex)["job"]
    if as_json:
        rendering.show_json(job)
    else:
        rendering.show(rendering.safe_line(f"{job['id']} is {job['status']}"))
    return 0


def _change_host(session: Session, typed: str, change: str, as_json: bool) -> int:
    path = host_path(find_host(session.coordinators, typed), change)
    host = session.coordinators.post(path, {}, key=uuid.uuid4().hex)["host"]
    if as_json:
        rendering.show_json(host)
    else:
        rendering.show(rendering.safe_line(f"{host['name']} is {host.get('mode', 'active')}"))
    return 0


def _job_facts(job: dict[str, Any]) -> dict[str, object]:
    result = job.get("result") or {}
    return {
        "job": job["id"],
        "status": job["status"] + (": no known host can run it" if job.get("unschedulable") else ""),
        "work": rendering.job_words(job["payload"]),
        "needs": ", ".join(job["requirement"]["requiredCapabilities"]),
        "labels": ", ".join(f"{name}={value}" for name, value in job.get("labels", {}).items()),
        "priority": job.get("priority"),
        "created": f"{job['createdAt']} ({rendering.age(job['createdAt'])} ago)",
        "not before": job.get("notBefore"),
        "host": job.get("assignedHostId"),
        "attempts": job["attempts"],
        "finished": result.get("finishedAt"),
        "duration": f"{result['durationMs']} ms" if "durationMs" in result else None,
        "exit code": result.get("exitCode"),
        "error": failure(job),
        "output": cut_output(job),
    }
