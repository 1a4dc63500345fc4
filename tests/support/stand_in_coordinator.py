"""A coordinator as a host sees it: the host routes of the HTTP contract, in memory, over real HTTP.

Tests take its jobs away, hold its answers back, or take it off the net, and wait with `until` for what the host does.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.scripted_server import Asked, Hangup, Reply, ScriptedServer
from tests.support.stand_in_services import StandInServices


class Fault(Exception):
    """A refusal: status, code, sentence."""


@dataclass
class StandInJob:
    """A job and what became of it."""

    id: str
    payload: dict[str, Any]
    fields: dict[str, Any]
    status: str = "queued"
    host_id: str | None = None
    token: str | None = None
    claim_id: str | None = None
    leased_at: float = 0.0
    renewals: int = 0
    attempts: int = 0
    result: dict[str, Any] | None = None
    released: list[str] = field(default_factory=list)


class StandInCoordinator:
    """State is touched under `changed` only, which is notified after each request."""

    def __init__(self, lease_ms: int = 60_000, largest_body: int = 4 * 1024 * 1024) -> None:
        self.changed = threading.Condition()
        self.lease_ms, self.largest_body = lease_ms, largest_body
        self.jobs: dict[str, StandInJob] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.registrations: list[dict[str, Any]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.claims: list[dict[str, Any]] = []
        self.results: list[list[dict[str, Any]]] = []  # each delivered batch
        self.services = StandInServices()
        self.running_most = 0  # leases of a host at one time
        self.lose_claim_answers = 0
        self.before: Callable[[Asked], Reply | None] = lambda _: None  # a test's own answer, instead of the stand-in's
        self._numbers = itertools.count(1)
        self._server: ScriptedServer | None = None
        self._port = 0

    # What a test does.

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer, on the same port as before."""
        self._server = ScriptedServer(self._answer, self._port)
        self._port = int(self._server.url.rpartition(":")[2])
        self._server.start()

    def stop(self) -> None:
        """Be gone from the net; what is known stays known."""
        if self._server is not None:
            with self.changed:
                server, self._server = self._server, None
                self.changed.notify_all()
            server.stop()

    def shell(self, command: str, *args: str, **fields: Any) -> str:
        """Queue a shell job; returns its id."""
        return self.enqueue({"kind": "shell", "command": command, "args": list(args)}, **fields)

    def enqueue(self, payload: dict[str, Any], **fields: Any) -> str:
        """Queue a job; returns its id."""
        with self.changed:
            job = StandInJob(f"job_{next(self._numbers)}", payload, fields)
            self.jobs[job.id] = job
            self.changed.notify_all()
            return job.id

    def cancel(self, job_id: str) -> None:
        """The job is not to run any more."""
        with self.changed:
            self.jobs[job_id].status, self.jobs[job_id].token = "cancelled", None

    def take_away(self, job_id: str, status: str = "elsewhere") -> None:
        """The lease is over, and no longer this host's."""
        with self.changed:
            self.jobs[job_id].status, self.jobs[job_id].token = status, None

    def forget_hosts(self) -> None:
        """As after the loss of the database of hosts."""
        with self.changed:
            self.hosts.clear()
            self.changed.notify_all()

    def until(self, condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
        """Wait until it is so; fails the test when it is not in time."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout_s):
                raise AssertionError(f"not in time; jobs: {list(self.jobs.values())}, hosts: {self.hosts}, {self.services.instances}")

    def until_done(self, *job_ids: str, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Wait for the results of these jobs."""
        self.until(lambda: all(self.jobs[job_id].result is not None for job_id in job_ids), timeout_s)
        return [result for job_id in job_ids if (result := self.jobs[job_id].result) is not None]

    # What a host sees.

    def _answer(self, asked: Asked) -> Reply:
        own = self.before(asked)
        if own is not None:
            return own
        if (bundle := self.services.bundle(asked.path)) is not None:
            return Reply(raw=bundle, content_type="application/gzip")
        if len(asked.body) > self.largest_body:
            return _refused(413, "payload_too_large", "the body is too large")
        with self.changed:
            try:
                say = self._route(asked.path.strip("/").split("/")[1:], asked.json)
            except Fault as fault:
                return _refused(*fault.args)
            finally:
                self.changed.notify_all()
        return Reply(say=say)

    def _route(self, path: list[str], body: dict[str, Any]) -> dict[str, Any]:
        match path:
            case ["hosts", "register"]:
                return self._register(body)
            case ["hosts", host_id, "heartbeat"]:
                return self._heartbeat(self._host(host_id), body)
            case ["hosts", host_id, "claim"]:
                return self._claim(host_id, body)
            case ["hosts", host_id, "services", "sync"]:
                self._host(host_id)
                return self.services.sync(body)
            case ["hosts", host_id, "results"]:
                self._host(host_id)
                self.results.append(body["results"])
                return {"results": [self._take_result(host_id, result) for result in body["results"]]}
            case ["hosts", host_id, "drain"]:
                self._host(host_id)["mode"] = "draining"
                return {"host": self._host(host_id)}
            case ["jobs", job_id, "release"]:
                return self._release(job_id, body)
        raise Fault(404, "not_found", "not found")

    def _register(self, body: dict[str, Any]) -> dict[str, Any]:
        self.registrations.append(body)
        host_id = body.get("hostId") or f"host_{next(self._numbers)}"
        listed = {(lease["jobId"], lease["leaseToken"]) for lease in body.get("leases", [])}
        for job in self._leased(host_id):
            if (job.id, job.token) not in listed:
                self._requeue(job, "new life")
        self.hosts[host_id] = {"id": host_id, "name": body["name"], "maxParallel": body.get("maxParallel", 1), "mode": "active"}
        return {"host": self.hosts[host_id]}

    def _heartbeat(self, host: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        self.heartbeats.append(body)
        listed = {(lease["jobId"], lease["leaseToken"]) for lease in body["leases"]}
        mine = {(job.id, job.token): job for job in self._leased(host["id"])}
        for lease, job in mine.items():
            if lease in listed:
                job.renewals += 1
            elif time.monotonic() - job.leased_at > 10:
                self._requeue(job, "not listed")
        gone = [job_id for job_id, token in listed if (job_id, token) not in mine]
        cancelled = [job_id for job_id in gone if job_id in self.jobs and self.jobs[job_id].status == "cancelled"]
        lost = [job_id for job_id in gone if job_id not in cancelled]
        return {"host": host, "cancelled": cancelled, "lost": lost, **self.services.hint()}

    def _claim(self, host_id: str, body: dict[str, Any]) -> dict[str, Any]:
        host = self._host(host_id)
        self.claims.append(body)
        ends = time.monotonic() + body.get("waitMs", 0) / 1000
        jobs = [job for job in self._leased(host_id) if job.claim_id == body["claimId"]]
        while not jobs:
            if host["mode"] != "active":
                return {"job": None, "jobs": [], "reason": host["mode"]}
            if len(self._leased(host_id)) >= host["maxParallel"]:
                return {"job": None, "jobs": [], "reason": "full"}
            jobs = self._lease(host_id, body)
            if not jobs and (self._server is None or not self.changed.wait(ends - time.monotonic()) or self._server is None):
                break
            host = self._host(host_id)
        if jobs and self.lose_claim_answers:
            self.lose_claim_answers -= 1
            raise Hangup
        seen = [self._seen(job) for job in jobs]
        return {"job": seen[0] if seen else None, "jobs": seen}

    def _lease(self, host_id: str, body: dict[str, Any]) -> list[StandInJob]:
        room = self.hosts[host_id]["maxParallel"] - len(self._leased(host_id))
        jobs = [job for job in self.jobs.values() if job.status == "queued"][: min(room, body.get("max", 1))]
        for job in jobs:
            job.status, job.host_id, job.claim_id = "leased", host_id, body["claimId"]
            job.token, job.leased_at, job.attempts = f"1.{next(self._numbers)}", time.monotonic(), job.attempts + 1
        self.running_most = max(self.running_most, len(self._leased(host_id)))
        return jobs

    def _take_result(self, host_id: str, result: dict[str, Any]) -> dict[str, Any]:
        job = self.jobs.get(result["jobId"])
        if job is None:
            return {"jobId": result["jobId"], "ok": False, "code": "unknown_job", "error": "unknown job"}
        if job.status != "leased" or job.host_id != host_id or job.token != result["leaseToken"]:
            return {"jobId": job.id, "ok": False, "code": "stale_attempt", "error": "the lease is no longer in force"}
        job.status, job.result, job.token = "completed" if result["success"] else "failed", result, None
        return {"jobId": job.id, "ok": True, "status": job.status}

    def _release(self, job_id: str, body: dict[str, Any]) -> dict[str, Any]:
        self._host(body["hostId"])
        job = self.jobs.get(job_id)
        if job is None:
            raise Fault(404, "unknown_job", "unknown job")
        if job.token is None or job.token != body["leaseToken"]:
            raise Fault(409, "stale_attempt", "the lease is no longer in force")
        self._requeue(job, body["reason"])
        return {"job": self._seen(job)}

    def _requeue(self, job: StandInJob, reason: str) -> None:
        job.released.append(reason)
        job.status, job.token, job.claim_id = "queued", None, None

    def _host(self, host_id: str) -> dict[str, Any]:
        if host_id not in self.hosts:
            raise Fault(404, "unknown_host", f"unknown host: {host_id}")
        return self.hosts[host_id]

    def _leased(self, host_id: str) -> list[StandInJob]:
        return [job for job in self.jobs.values() if job.status == "leased" and job.host_id == host_id]

    def _seen(self, job: StandInJob) -> dict[str, Any]:
        lease = {"leaseToken": job.token, "leaseMs": self.lease_ms} if job.token else {}
        return {"id": job.id, "status": job.status, "payload": job.payload, **job.fields, **lease}


def _refused(status: int, code: str, error: str) -> Reply:
    return Reply(status, {"error": error, "code": code, "requestId": "r"})


@contextlib.contextmanager
def coordinating(**options: Any) -> Iterator[StandInCoordinator]:
    """A stand-in that answers while the block runs."""
    coordinator = StandInCoordinator(**options)
    coordinator.start()
    try:
        yield coordinator
    finally:
        coordinator.stop()
