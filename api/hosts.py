"""/v1/hosts: register, heartbeat, report, and what an operator says about a host."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from falcon import Request, Response
from marshmallow import ValidationError

from api import bodies
from api.forwarding import ANSWER_S, LIFE, Forwarding, OwnerUnknown, Passing, tried
from api.idempotency import keyed
from api.parts import Parts
from api.reports import report
from api.schemas import EmptyRequest, HeartbeatRequest, RegisterRequest, ResultsRequest
from api.views import View, Views, dump
from skyclaw.answers import HeartbeatSeen, HostSeen, HostsSeen, Repeated, ReportsSeen
from skyclaw.commands import ChangeMode, FindHost, Heartbeat, Keyed, ListHosts, Register, Report, ReportAll
from skyclaw.errors import NotLeased, Refused, SkyclawError, UnknownJob
from skyclaw.ids import new_host_id
from skyclaw.scheduling.books import TAG
from skyclaw.scheduling.jobs import Job, require_lease

LIFE_NUMBER = re.compile(r"[0-9]{1,18}")
UNKNOWN_LOG: dict[str, Any] = {}
REGISTER, HEARTBEAT, RESULTS, EMPTY = RegisterRequest(), HeartbeatRequest(), ResultsRequest(), EmptyRequest()


class Hosts:
    """/v1/hosts, and /v1/hosts/{host_id}."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._views = parts.desk, Views(parts.node)

    def on_get(self, _req: Request, resp: Response) -> None:
        """All hosts."""
        known: HostsSeen = self._desk.ask(ListHosts())
        resp.data = dump({"hosts": [self._views.host(seen) for seen in known.hosts]})

    def on_get_one(self, _req: Request, resp: Response, host_id: str) -> None:
        """One host."""
        resp.data = dump({"host": self._views.host(self._desk.ask(FindHost(host_id)))})


class HostRegistration:
    """/v1/hosts/register."""

    def __init__(self, parts: Parts, forwarding: Forwarding) -> None:
        self._parts, self._desk, self._views, self._forwarding = parts, parts.desk, Views(parts.node), forwarding

    def on_post(self, req: Request, resp: Response) -> None:
        """A host begins a life, here and at whoever else decides about leases of its former one."""
        body = bodies.read(req)
        asked, life = REGISTER.read(body), _life(req)
        asked.setdefault("host_id", new_host_id())
        if life is not None:
            asked |= {"forwarded": True, "life": life}
        seen = seen_host(self._parts, self._desk.ask(Register(**asked, keyed=keyed(req, body))))
        if seen.owners and life is None:
            told = Passing.of(req, resp).instead({**body, "hostId": seen.host.id}, **{LIFE: str(seen.host.life)})
            self._forwarding.tell_owners(told, seen.owners)
        view: View = {"host": self._views.host(seen)}
        if self._parts.heartbeat_ms is not None:
            view["heartbeatMs"] = self._parts.heartbeat_ms
        resp.data = dump(view)


class HostHeartbeat:
    """/v1/hosts/{host_id}/heartbeat."""

    def __init__(self, parts: Parts, forwarding: Forwarding) -> None:
        self._desk, self._views, self._forwarding = parts.desk, Views(parts.node), forwarding

    def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """A host lives, and learns which of its jobs it must stop, and of which ones nobody who decides could be told (`notRenewed`)."""
        body = bodies.read(req)
        asked = HEARTBEAT.read(body)
        answer = self._desk.ask(Heartbeat(host_id, asked["leases"], asked["answered"], asked["load_figures"], keyed=keyed(req, body)))
        if isinstance(answer, Repeated):
            answer = HeartbeatSeen(self._desk.ask(FindHost(host_id)), (), ())
        view: View = {"host": self._views.host(answer.host), "cancelled": answer.cancelled, "lost": answer.lost}
        if answer.services:
            view["services"] = answer.services
        if answer.owners and not tried(req):
            said = self._forwarding.tell_owners(Passing.of(req, resp).unkeyed(), answer.owners)
            view |= {name: sorted({*view[name], *_named(said, name)}) for name in ("cancelled", "lost")}
            unheard = {held.job_id for held in asked["leases"] or () if said.get(held.job_id[TAG], UNKNOWN_LOG) is None}
            if unheard:
                view["notRenewed"] = sorted(unheard)
        resp.data = dump(view)


class HostMode:
    """/v1/hosts/{host_id}/drain, /pause and /resume."""

    def __init__(self, parts: Parts, mode: str) -> None:
        self._parts, self._mode, self._views = parts, mode, Views(parts.node)

    def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """Say whether the host may take work."""
        body = bodies.read(req)
        EMPTY.read(body)
        answer = self._parts.desk.ask(ChangeMode(host_id, self._mode, keyed=keyed(req, body)))
        resp.data = dump({"host": self._views.host(seen_host(self._parts, answer))})


class HostResults:
    """/v1/hosts/{host_id}/results."""

    def __init__(self, parts: Parts, forwarding: Forwarding) -> None:
        self._desk, self._archive, self._cluster, self._forwarding = parts.desk, parts.archive, parts.cluster, forwarding

    def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """Take several results; a refusal of one does not touch the others.

        Those about jobs that others decide for go there. Where nobody is sure, it says `owner_unknown`, and the result is to be sent again.
        """
        body = bodies.read_report(req)
        reports = list(_reports(host_id, RESULTS.read(body)["results"], body["results"]))
        elsewhere = {} if tried(req) else self._elsewhere(reports)
        here = [number for number in range(len(reports)) if number not in elsewhere]
        said: dict[int, View] = {}
        if here:
            answers = self._take(host_id, [reports[number] for number in here], _key_of_one_log(req, body, reports))
            said |= zip(here, answers, strict=True)
        if elsewhere:
            said |= self._pass_on(Passing.of(req, resp), body["results"], elsewhere)
        resp.data = dump({"results": [said[number] for number in range(len(reports))]})

    def _elsewhere(self, reports: list[Report]) -> dict[int, str | None]:
        """Of the reports about jobs that others decide for: who does, as far as known. By their numbers."""
        known = set(self._cluster.logs())
        owners = {log: self._cluster.owner(log) for log in {one.job_id[TAG] for one in reports}}
        others = {log for log, owner in owners.items() if owner != self._cluster.node and (owner is not None or log in known)}
        return {number: owners[one.job_id[TAG]] for number, one in enumerate(reports) if one.job_id[TAG] in others}

    def _take(self, host_id: str, reports: list[Report], key: Keyed | None) -> list[View]:
        answer = self._desk.ask(ReportAll(host_id, tuple(reports), keyed=key))
        if isinstance(answer, Repeated):
            answer = ReportsSeen(tuple(told_again(one, self._archive.job(one.job_id, answer.seq)) for one in reports))
        return [self._said(*result) for result in answer.results]

    def _pass_on(self, passing: Passing, sent: list[dict[str, Any]], elsewhere: Mapping[int, str | None]) -> dict[int, View]:
        """What the others say, by the numbers of the results."""
        numbers = {node: [number for number in elsewhere if elsewhere[number] == node] for node in set(elsewhere.values())}
        requests = {node: passing.instead({"results": [sent[n] for n in some]}) for node, some in numbers.items() if node is not None}
        said: dict[int, View] = {number: _in_doubt(str(sent[number]["jobId"])) for number in elsewhere}
        for node, answer in self._forwarding.tell(requests, ANSWER_S).items():
            answers = (answer or {}).get("results")
            if isinstance(answers, list) and len(answers) == len(numbers[node]):
                said |= zip(numbers[node], answers, strict=True)
        return said

    def _said(self, job_id: str, word: str, error: str | None = None) -> View:
        if error is None:
            return {"jobId": job_id, "ok": True, "status": word}
        if word == UnknownJob.code and not self._cluster.ready:
            return _in_doubt(job_id)
        return {"jobId": job_id, "ok": False, "code": word, "error": error}


def seen_host(parts: Parts, answer: HostSeen | Repeated) -> HostSeen:
    """The host an answer is about; one that was given before shows the host as it is now."""
    if isinstance(answer, Repeated):
        seen: HostSeen = parts.desk.ask(FindHost(answer.subjects[0]))
        return seen
    return answer


def told_again(told: Report, job: Job | None) -> tuple[str, str] | tuple[str, str, str]:
    """What a report was answered, from the job as it was right after it."""
    refusal: SkyclawError
    if job is None:
        refusal = UnknownJob(f"unknown job: {told.job_id}")
        return told.job_id, refusal.code, str(refusal)
    if job.lease is None and job.last_token is not None and told.token in (None, job.last_token):
        return told.job_id, job.status
    try:
        require_lease(job, told.host_id, told.token)
        refusal = NotLeased()
    except Refused as error:
        refusal = error
    return told.job_id, refusal.code, str(refusal)


def _reports(host_id: str, results: list[dict[str, Any]], sent: list[dict[str, Any]]) -> list[Report]:
    reports = []
    for position, (values, one) in enumerate(zip(results, sent, strict=True)):
        try:
            reports.append(report(values["job_id"], host_id, values, one))
        except ValidationError as error:
            raise ValidationError({"results": {position: error.messages}}) from None
    return reports


def _key_of_one_log(req: Request, body: dict[str, Any], reports: list[Report]) -> Keyed | None:
    """The request's key, which only one log can remember; of several logs each result is known again by its lease anyway."""
    key = keyed(req, body)
    return key if len({one.job_id[TAG] for one in reports}) == 1 else None


def _in_doubt(job_id: str) -> View:
    """Of a result that may or may not have been taken: whoever decides about it could not be asked."""
    refusal = OwnerUnknown(f"the coordinator that decides for job {job_id} did not answer; send the result again")
    return {"jobId": job_id, "ok": False, "code": refusal.code, "error": str(refusal)}


def _life(req: Request) -> int | None:
    """The number of the life that another coordinator has registered already; None for a host's own request."""
    given = req.env.get("HTTP_X_SKYCLAW_LIFE", "")
    return int(given) if tried(req) and LIFE_NUMBER.fullmatch(given) else None


def _named(said: Mapping[str, dict[str, Any] | None], name: str) -> Iterator[str]:
    """The ids of jobs that the others list under this name."""
    for answer in said.values():
        listed = (answer or {}).get(name)
        yield from (job_id for job_id in listed if isinstance(job_id, str)) if isinstance(listed, list) else ()
