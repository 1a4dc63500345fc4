"""/v1/jobs: enqueue, watch, complete, give back, cancel, run again."""

from falcon import Request, Response

from api import bodies, forwarding, listing, queries
from api.answers import JobAnswers
from api.enqueueing import Enqueueing
from api.idempotency import keyed
from api.parts import Parts
from api.reports import report
from api.schemas import MAX_WAIT_MS, BatchRequest, CompleteRequest, EmptyRequest, EnqueueRequest, ReleaseRequest
from api.views import dump
from skyclaw.commands import Cancel, Enqueue, FindJob, Release, Retry
from skyclaw.errors import LostContact, NotOwner
from skyclaw.scheduling.books import TAG

ENQUEUE, BATCH, COMPLETE, RELEASE, EMPTY = EnqueueRequest(), BatchRequest(), CompleteRequest(), ReleaseRequest(), EmptyRequest()


class JobCollection:
    """/v1/jobs."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._answers, self._enqueueing = parts.desk, JobAnswers(parts), Enqueueing(parts)
        self._listing = listing.Listing(parts)

    def on_post(self, req: Request, resp: Response) -> None:
        """Accept a job."""
        body = bodies.read(req)
        asked, key, home = ENQUEUE.read(body), keyed(req, body), self._enqueueing.home(req)
        answer = self._desk.ask(Enqueue((self._enqueueing.event(asked, home, key),), home, keyed=key))
        resp.data = dump(self._answers.one(answer))

    def on_get(self, req: Request, resp: Response) -> None:
        """List jobs, the newest first."""
        resp.data = dump(self._listing.page(listing.wanted(req)))


class JobBatch:
    """/v1/jobs/batch."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._answers, self._enqueueing = parts.desk, JobAnswers(parts), Enqueueing(parts)

    def on_post(self, req: Request, resp: Response) -> None:
        """Accept several jobs, all or none."""
        body = bodies.read(req)
        asked, key, home = BATCH.read(body)["jobs"], keyed(req, body), self._enqueueing.home(req)
        answer = self._desk.ask(Enqueue(tuple(self._enqueueing.event(one, home) for one in asked), home, keyed=key))
        resp.data = dump(self._answers.several(answer))


class OneJob:
    """/v1/jobs/{job_id}."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._cluster, self._answers = parts.desk, parts.cluster, JobAnswers(parts)

    def on_get(self, req: Request, resp: Response, job_id: str) -> None:
        """The job: at once, or when it has finished, or after `waitMs`; as it is known here, with `consistent=1` as its owner has it."""
        wait_ms = queries.whole(req, "waitMs", 0, MAX_WAIT_MS, 0)
        if queries.choice(req, "consistent", ("0", "1")) == "1":
            self._require_owner(job_id[TAG])
        if forwarding.tried(req):
            wait_ms = 0
        answer = self._desk.ask_parked(FindJob(job_id, park=True), wait_ms) if wait_ms else self._desk.ask(FindJob(job_id))
        resp.data = dump(self._answers.one(answer))

    def _require_owner(self, log: str) -> None:
        """Raises NotOwner for a log that others decide for, LostContact when somebody may do so by now that this one cannot hear of.

        A log that nobody knows nobody needs to be asked about.
        """
        owner = self._cluster.owner(log)
        if owner == self._cluster.node:
            if not self._cluster.in_contact(log):
                raise LostContact
        elif owner is not None or log in self._cluster.logs():
            raise NotOwner(log)


class JobCompletion:
    """/v1/jobs/{job_id}/complete."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._answers = parts.desk, JobAnswers(parts)

    def on_post(self, req: Request, resp: Response, job_id: str) -> None:
        """Take the result of an attempt."""
        body = bodies.read_report(req)
        values, key = COMPLETE.read(body), keyed(req, body)
        resp.data = dump(self._answers.one(self._desk.ask(report(job_id, values["host_id"], values, body, key))))


class JobRelease:
    """/v1/jobs/{job_id}/release."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._answers = parts.desk, JobAnswers(parts)

    def on_post(self, req: Request, resp: Response, job_id: str) -> None:
        """Take a job back from its host."""
        body = bodies.read(req)
        asked = RELEASE.read(body)
        command = Release(job_id, asked["host_id"], asked["token"], asked["reason"], asked["claim_id"], keyed=keyed(req, body))
        resp.data = dump(self._answers.one(self._desk.ask(command)))


class JobOrder:
    """/v1/jobs/{job_id}/cancel and /retry."""

    def __init__(self, parts: Parts, order: type[Cancel] | type[Retry]) -> None:
        self._desk, self._answers, self._order = parts.desk, JobAnswers(parts), order

    def on_post(self, req: Request, resp: Response, job_id: str) -> None:
        """Give the order."""
        body = bodies.read(req)
        EMPTY.read(body)
        resp.data = dump(self._answers.one(self._desk.ask(self._order(job_id, keyed=keyed(req, body)))))
