"""GET /v1/jobs: which jobs, in which order, and how far one request looks.

Three orders, by what is asked for: live jobs by age, finished ones by their end, all others by age again; the newest always first. Each
log has an order of its own, which no clock can disturb; the logs are merged by time. `next` names the order, and for each log the position
below which its next page begins.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from falcon import Request
from marshmallow import ValidationError

from api import queries
from api.fields import shown
from api.parts import Parts
from api.views import View, Views
from skyclaw.answers import Surveyed
from skyclaw.commands import Survey
from skyclaw.scheduling.books import TAG
from skyclaw.scheduling.jobs import FINISHED, STATUSES, Job

LIVE, ENDED, ALL = "live", "ended", "all"
MAX_LIMIT, DEFAULT_LIMIT = 1000, 100
MAX_LOOKED_AT = 1000  # positions of the log looked at for one page, however few of them fit; the next page goes on from there
CURSOR = re.compile(r"(live|ended|all)((?:-[0-9a-f]{8}\.[0-9]{1,18}){1,100})")

Place = tuple[int, Job | None]  # a position of a log, with the job there unless it is not asked for


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for; `before` has, by log, the position above which everything was shown already."""

    statuses: frozenset[str]
    labels: tuple[tuple[str, str], ...]
    limit: int
    before: Mapping[str, int]

    @property
    def order(self) -> str:
        """Which of the three."""
        return order_of(self.statuses)

    def fits(self, job: Job) -> bool:
        """Is the job asked for?"""
        return job.status in self.statuses and all(label in job.asked.labels for label in self.labels)


def order_of(statuses: frozenset[str]) -> str:
    """The order in which jobs of these statuses are shown."""
    if statuses <= FINISHED:
        return ENDED
    return ALL if statuses & FINISHED else LIVE


def wanted(req: Request) -> Wanted:
    """Read the query; raises ValidationError."""
    named = queries.text(req, "status")
    statuses = frozenset(named.split(",") if named else STATUSES)
    if unknown := statuses - set(STATUSES):
        raise ValidationError({"status": [f"must be of {', '.join(STATUSES)}, not {shown(min(unknown))}"]})
    labels = [label.partition("=") for label in req.get_param_as_list("label") or []]
    if any(not middle for _, middle, _ in labels):
        raise ValidationError({"label": ["must be name=text"]})
    limit = queries.whole(req, "limit", 1, MAX_LIMIT, DEFAULT_LIMIT)
    return Wanted(statuses, tuple((name, text) for name, _, text in labels), limit, _before(req, order_of(statuses)))


def _before(req: Request, order: str) -> Mapping[str, int]:
    cursor = queries.text(req, "after")
    if cursor is None:
        return {}
    match = CURSOR.fullmatch(cursor)
    if match is None or match[1] != order:
        raise ValidationError({"after": ["must be the `next` of an answer to the same query"]})
    places = (place.split(".") for place in match[2][1:].split("-"))
    return {log: int(position) for log, position in places}


def _cursor(order: str, before: Mapping[str, int]) -> str:
    return "-".join([order, *(f"{log}.{position}" for log, position in sorted(before.items()))])


class Listing:
    """Pages of jobs."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._desk, self._archive, self._views = parts, parts.desk, parts.archive, Views(parts.node)

    def page(self, asked: Wanted) -> View:
        """`{jobs, next?}`; a page with a `next` may hold fewer jobs than asked for, or none."""
        jobs: list[View] = []
        before = dict(asked.before)
        for looked_at, (log, position, view) in enumerate(self._candidates(asked), 1):
            before[log] = position
            if view is not None:
                jobs.append(view)
            if len(jobs) == asked.limit or looked_at == MAX_LOOKED_AT:
                return {"jobs": jobs, "next": _cursor(asked.order, before)}
        return {"jobs": jobs}

    def _candidates(self, asked: Wanted) -> Iterator[tuple[str, int, View | None]]:
        """Logs and positions with the jobs there, None for one that is not asked for."""
        if asked.order == LIVE:
            surveyed: Surveyed = self._desk.ask(Survey())
            places = _merged(_live(filter(asked.fits, surveyed.live), asked.before), asked.order)
            for seen in surveyed.see(job for _, _, job in places if job is not None):
                yield seen.job.id[TAG], seen.job.position, self._views.seen(seen)
            return
        logs = {log: self._stored(asked, log) for log in self._parts.logs}
        for log, position, job in _merged(logs, asked.order):
            yield log, position, self._views.job(job.head()) if job is not None else None

    def _stored(self, asked: Wanted, log: str) -> Iterator[Place]:
        """The places of one log; of another coordinator's, what may still be replaced is not shown."""
        cluster, before = self._parts.cluster, asked.before.get(log)
        committed = cluster.committed(log)
        if committed is not None and cluster.owner(log) != cluster.node:
            before = committed + 1 if before is None else min(before, committed + 1)
        if asked.order == ENDED:
            places = self._archive.finished(sorted(asked.statuses), before, MAX_LOOKED_AT, log)
        else:
            places = self._archive.enqueued(before, MAX_LOOKED_AT, log)
        return ((position, job if job is not None and asked.fits(job) else None) for position, job in places)


def _live(jobs: Iterable[Job], before: Mapping[str, int]) -> dict[str, Iterator[Place]]:
    """The places of jobs that are in memory, by log."""
    logs: dict[str, list[Place]] = {}
    for job in jobs:
        log = job.id[TAG]
        if log not in before or job.position < before[log]:
            logs.setdefault(log, []).append((job.position, job))
    return {log: iter(sorted(places, key=lambda place: -place[0])) for log, places in logs.items()}


def _merged(logs: Mapping[str, Iterator[Place]], order: str) -> Iterator[tuple[str, int, Job | None]]:
    """The places of all logs, the latest job first; what is not asked for comes as soon as it is met, without being compared."""
    heads: dict[str, tuple[int, Job]] = {}
    waiting = dict(logs)
    while waiting or heads:
        for log, places in list(waiting.items()):
            for position, job in places:
                if job is not None:
                    heads[log] = position, job
                    break
                yield log, position, None
            if log not in heads:
                del waiting[log]
        if not heads:
            return
        log = max(heads, key=lambda one: (_time(heads[one][1], order), one))
        position, latest = heads.pop(log)
        yield log, position, latest
        waiting = {log: logs[log]}


def _time(job: Job, order: str) -> int:
    return job.updated_at if order == ENDED else job.created_at
