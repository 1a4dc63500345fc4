"""What can be looked at beside a job: its output, its events, and why it is where it is."""

from collections.abc import Sequence
from typing import Any

import orjson
from falcon import Request, Response

from api import queries
from api.answers import JobAnswers
from api.parts import Parts
from api.views import View, dump, iso
from skyclaw.answers import Elsewhere, Explained, JobSeen
from skyclaw.commands import Explain, FindJob
from skyclaw.errors import UnknownJob
from skyclaw.records import Record
from skyclaw.scheduling.jobs import Job

STREAMS = ("stdout", "stderr")
LONGEST = 2**53


class JobLog:
    """/v1/jobs/{job_id}/log."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._answers = parts.desk, JobAnswers(parts)

    def on_get(self, req: Request, resp: Response, job_id: str) -> None:
        """Both streams, or one from the character `after` on."""
        stream = queries.choice(req, "stream", STREAMS)
        after = queries.whole(req, "after", 0, LONGEST, 0)
        job = self._job(job_id)
        view: View = {"jobId": job_id}
        if stream is None:
            view |= {name: _printed(job, name) for name in STREAMS}
        else:
            text = _printed(job, stream)[after:]
            view |= {"stream": stream, "text": text, "next": after + len(text)}
        resp.data = dump({**view, "finished": job.finished})

    def _job(self, job_id: str) -> Job:
        answer = self._desk.ask(FindJob(job_id))
        if isinstance(answer, Elsewhere):
            return self._answers.stored(job_id, answer.until)
        job: Job = answer.job
        return job


def _printed(job: Job, stream: str) -> str:
    text: str | None = getattr(job.result, stream, None)
    return text or ""


class JobEvents:
    """/v1/jobs/{job_id}/events."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._archive = parts.desk, parts.archive

    def on_get(self, _req: Request, resp: Response, job_id: str) -> None:
        """Everything that happened to the job, oldest first."""
        records = self._committed(job_id)
        if not records:
            raise UnknownJob(f"unknown job: {job_id}")
        events = [{"seq": r.seq, "at": iso(r.at), "type": r.type, "version": r.version, "data": orjson.Fragment(r.data)} for r in records]
        resp.data = dump({"events": events})

    def _committed(self, job_id: str) -> Sequence[Record]:
        """What the queue's answer was computed from: it has waited until that is committed, and more may be stored that is not."""
        answer: JobSeen | Elsewhere = self._desk.ask(FindJob(job_id))
        if isinstance(answer, Elsewhere):
            return self._archive.events(job_id, answer.until)
        return self._archive.events(job_id)[: answer.job.version]


class JobExplanation:
    """/v1/jobs/{job_id}/explain."""

    def __init__(self, parts: Parts) -> None:
        self._desk = parts.desk

    def on_get(self, _req: Request, resp: Response, job_id: str) -> None:
        """Why the job waits, host by host."""
        said: Explained = self._desk.ask(Explain(job_id))
        hosts: list[dict[str, Any]] = [
            {"hostId": fit.host_id, "name": fit.name, "can": fit.can, "reason": fit.reason} for fit in said.hosts
        ]
        resp.data = dump({"jobId": job_id, "status": said.job.status, "reasons": said.reasons, "hosts": hosts})
