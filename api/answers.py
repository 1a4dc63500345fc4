"""How what the queue answers about jobs becomes JSON: what is no longer live, or was answered before, is read from the log."""

import secrets
from typing import Any

from api.parts import Parts
from api.views import View, Views
from skyclaw.answers import Claimed, Elsewhere, JobSeen, JobsSeen, Repeated
from skyclaw.errors import UnknownJob
from skyclaw.scheduling.jobs import Job

SOON_MS = (500, 1500)


def retry_after_ms() -> int:
    """When to come back; drawn, so that those who were sent away do not come back together."""
    return SOON_MS[0] + secrets.randbelow(SOON_MS[1] - SOON_MS[0] + 1)


class JobAnswers:
    """Finds the jobs that answers are about, and shows them."""

    def __init__(self, parts: Parts) -> None:
        self._archive, self._views = parts.archive, Views(parts.node)

    def one(self, answer: Any) -> View:
        """`{job, duplicate?, retryAfterMs?}`."""
        match answer:
            case JobsSeen(jobs=(seen,)):
                return {"job": self._views.seen(seen)}
            case JobSeen(duplicate=True, until=until):
                return {"job": self._views.job(self.stored(answer.job.id, until)), "duplicate": True}
            case JobSeen(parked=False):
                return {"job": self._views.seen(answer), "retryAfterMs": retry_after_ms()}
            case JobSeen():
                return {"job": self._views.seen(answer)}
            case Elsewhere(job_id=job_id, until=until):
                return {"job": self._views.job(self.stored(job_id, until))}
            case Repeated(subjects=(job_id,), seq=seq):
                return {"job": self._views.job(self.stored(job_id, seq))}
        raise TypeError(f"not an answer about one job: {answer!r}")

    def several(self, answer: JobsSeen | Repeated) -> View:
        """`{jobs}`."""
        if isinstance(answer, Repeated):
            return {"jobs": [self._views.job(self.stored(job_id, answer.seq)) for job_id in answer.subjects]}
        return {"jobs": [self._views.seen(seen) for seen in answer.jobs]}

    def claimed(self, answer: Claimed | Repeated) -> View:
        """`{job, jobs, retryAfterMs?, reason?, services?}`."""
        if isinstance(answer, Repeated):
            answer = Claimed(tuple(JobSeen(self.stored(job_id, answer.seq)) for job_id in answer.subjects))
        jobs = [self._views.claimed(seen) for seen in answer.jobs]
        view: View = {"job": jobs[0] if jobs else None, "jobs": jobs}
        if answer.crowded:
            view["retryAfterMs"] = retry_after_ms()
        if answer.reason is not None and not jobs:
            view["reason"] = answer.reason
        if answer.services:
            view["services"] = answer.services
        return view

    def stored(self, job_id: str, until: int | None = None) -> Job:
        """The job as the log has it; raises UnknownJob."""
        job = self._archive.job(job_id, until)
        if job is None:
            raise UnknownJob(f"unknown job: {job_id}")
        return job
