"""A coordinator as small as the command line needs it: jobs that finish when the test says so, behind real HTTP."""

import threading
import uuid
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.scripted_server import Asked, Reply

AT = "2026-11-20T12:20:53.796Z"


class SmallCoordinator:
    """Give its `script` to a ScriptedServer. `posted` is every accepted enqueue, as (body, key)."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.jobs: dict[str, dict[str, Any]] = {}
        self.hosts: list[dict[str, Any]] = []
        self.posted: list[tuple[dict[str, Any], str | None]] = []
        self.services: list[dict[str, Any]] = []
        self.health: dict[str, Any] = {"ok": True, "nodeId": "small", "log": "aaaaaaaa", "ready": True, "degraded": [], "version": "0.1.0"}
        self.at_enqueue: dict[str, Any] | None = None  # the result that a job has at once
        self.unschedulable = False
        self.waited = threading.Event()  # set when somebody waits for a job
        self._changed = threading.Condition()

    def add_job(self, job_id: str, status: str = "queued", **more: Any) -> dict[str, Any]:
        """A job that is there already."""
        job = {
            "id": job_id,
            "createdAt": AT,
            "updatedAt": AT,
            "updatedBy": "small",
            "version": 1,
            "status": status,
            "attempts": 0,
            "requirement": {"requiredCapabilities": ["shell"]},
            "payload": {"kind": "shell", "command": "true", "args": []},
            **more,
        }
        with self._changed:
            self.jobs[job_id] = job
        return job

    def add_host(self, host_id: str, name: str, **more: Any) -> None:
        """A host that is there already."""
        self.hosts.append(
            {
                "id": host_id,
                "name": name,
                "capabilities": ["shell"],
                "maxParallel": 2,
                "activeLeases": 1,
                "lastSeenAt": AT,
                "registeredAt": AT,
                "updatedBy": "small",
                "version": 1,
                "mode": "active",
                "online": True,
                "labels": {},
                **more,
            }
        )

    def finish(self, job_id: str, status: str = "completed", error: str | None = None, **result: Any) -> None:
        """End the job; who waits for it hears of it."""
        with self._changed:
            job = self.jobs[job_id]
            job["status"] = status
            if result:
                job["result"] = {"finishedAt": AT, "durationMs": 3, "exitCode": 0, "stdout": "", "stderr": "", **result}
            if error:
                job["error"] = error
            self._changed.notify_all()

    def script(self, asked: Asked) -> Reply:
        """The answer to one request."""
        parts = urlsplit(asked.path)
        path, query = [unquote(part) for part in parts.path.split("/")[1:]], dict(parse_qsl(parts.query))
        if path == ["health"]:
            return Reply(say=self.health)
        if self.token and asked.headers.get("x-skyclaw-token") != self.token:
            return refusal(401, "unauthorized", "unauthorized")
        if path[:2] == ["v1", "hosts"]:
            return self._hosts(path[2:])
        if path[:2] == ["v1", "jobs"]:
            return self._jobs(asked, path[2:], query)
        if path == ["v1", "services"]:
            return Reply(say={"services": self.services})
        return refusal(404, "not_found", "not found")

    def _hosts(self, path: list[str]) -> Reply:
        if not path:
            return Reply(say={"hosts": self.hosts})
        host = next((host for host in self.hosts if host["id"] == path[0]), None)
        if host is None:
            return refusal(404, "unknown_host", f"there is no host {path[0]}")
        host["mode"] = {"pause": "paused", "resume": "active", "drain": "draining"}[path[1]]
        return Reply(say={"host": host})

    def _jobs(self, asked: Asked, path: list[str], query: dict[str, str]) -> Reply:
        if asked.method == "POST" and not path:
            return self._enqueue(asked)
        if not path:
            return self._list(query)
        job = self.jobs.get(path[0])
        if job is None:
            return refusal(404, "unknown_job", f"there is no job {path[0]}")
        if len(path) == 1:
            return self._wait(job, int(query.get("waitMs", 0)))
        if path[1] == "log":
            result = job.get("result", {})
            return Reply(say={"jobId": job["id"], **{k: result.get(k, "") for k in ("stdout", "stderr")}, "finished": "result" in job})
        if path[1] == "explain":
            return Reply(say={"jobId": job["id"], "status": job["status"], "reasons": ["no host has gpu"], "hosts": []})
        return self._change(job, path[1])

    def _change(self, job: dict[str, Any], change: str) -> Reply:
        if (change == "cancel") != (job["status"] in ("queued", "leased")):
            return refusal(409, "already_finished" if change == "cancel" else "not_finished", f"the job is {job['status']}")
        self.finish(job["id"], "cancelled" if change == "cancel" else "queued")
        return Reply(say={"job": job})

    def _enqueue(self, asked: Asked) -> Reply:
        self.posted.append((asked.json, asked.headers.get("x-idempotency-key")))
        job = self.add_job(f"job_{uuid.uuid4()}", payload=asked.json["payload"], requirement=asked.json["requirement"])
        if self.unschedulable:
            job["unschedulable"] = True
        if self.at_enqueue is not None:
            self.finish(job["id"], **self.at_enqueue)
        return Reply(say={"job": job})

    def _wait(self, job: dict[str, Any], wait_ms: int) -> Reply:
        with self._changed:
            if wait_ms:
                self.waited.set()
                self._changed.wait_for(lambda: job["status"] not in ("queued", "leased"), wait_ms / 1000)
            return Reply(say={"job": dict(job)})

    def _list(self, query: dict[str, str]) -> Reply:
        """Newest first; `after` is the id of the last job seen."""
        found = [job for job in reversed(self.jobs.values()) if query.get("status", job["status"]) == job["status"]]
        ids = [job["id"] for job in found]
        start = ids.index(query["after"]) + 1 if "after" in query else 0
        page = found[start : start + int(query["limit"])]
        more = {"next": page[-1]["id"]} if start + len(page) < len(found) else {}
        return Reply(say={"jobs": page, **more})


def refusal(status: int, code: str, error: str, **details: Any) -> Reply:
    """A refusal in the coordinator's shape."""
    return Reply(status, {"error": error, "code": code, "requestId": "r", **({"details": details} if details else {})})
