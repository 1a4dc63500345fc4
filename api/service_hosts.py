"""What hosts say about services, and hear of them.

A host of ours tells how all its instances are, and hears what it is to run (`sync`). One of the TypeScript version asks for one service
after the other (`claim`), and says how it is (`report`).

Only the coordinator that a host speaks to sees the host's address. It makes the instances' endpoints whole and checks them; those that it
passes the request on to take them from there.

Who decides for a log, and has not heard of its voters for a while, may have been replaced without knowing it: it says nothing about the
instances of that log. Whoever cannot find out all that is wanted of a host says that the answer is `partial`: another coordinator may
know more.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from falcon import Request, Response

from api import bodies, forwarding
from api.forwarding import Forwarding, Passing
from api.idempotency import keyed
from api.parts import Parts
from api.schemas import EmptyRequest
from api.service_logs import SharedOutputs
from api.service_schemas import ServiceReportRequest, SyncRequest
from api.service_views import ServiceViews, wanted
from api.services import ServiceAnswers
from api.views import View, dump
from skyclaw.answers import ServiceClaimed, Synced
from skyclaw.commands import ClaimService, InstanceNews, ReportService, SyncServices
from skyclaw.errors import Unavailable
from skyclaw.outside.endpoints import BadEndpoint, Sender
from skyclaw.scheduling.books import TAG
from skyclaw.services.outputs import Source

EMPTY, REPORT, SYNC = EmptyRequest(), ServiceReportRequest(), SyncRequest()


class ServiceClaim:
    """/v1/hosts/{host_id}/services/claim."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._cluster, self._views = parts.desk, parts.cluster, ServiceViews(parts.node)

    def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """The next service that the host is to run, if there is one. Raises Unavailable where that may not be known."""
        EMPTY.read(bodies.read(req))
        claimed: ServiceClaimed = self._desk.ask(ClaimService(host_id, forwarded=bool(forwarding.tried(req))))
        service = claimed.service
        if not (self._cluster.ready if service is None else self._cluster.in_contact(service.id[TAG])):
            raise Unavailable("this coordinator does not reach the others that it needs; ask another one")
        resp.data = dump({"service": self._views.claimed(service, claimed.instance_id) if service is not None else None})


class ServiceReport:
    """/v1/services/{service}/report."""

    def __init__(self, parts: Parts) -> None:
        self._answers = ServiceAnswers(parts)

    def on_post(self, req: Request, resp: Response, service: str) -> None:
        """How a service is on a host."""
        body = bodies.read(req)
        asked, key = REPORT.read(body), keyed(req, body)
        said = _judged(asked, _sender(req))
        if said["endpoint"] != asked["endpoint"]:
            replaced = {"hostId": said["host_id"], "status": said["status"], **_without_none(said, "endpoint", "error")}
            req.context.received = json.dumps(replaced).encode()  # what is passed on
        resp.data = dump(self._answers.one(ReportService(service, **said, keyed=key)))


class ServiceSync:
    """/v1/hosts/{host_id}/services/sync."""

    def __init__(self, parts: Parts, forwarding: Forwarding, outputs: SharedOutputs) -> None:
        self._desk, self._cluster, self._forwarding, self._outputs = parts.desk, parts.cluster, forwarding, outputs

    def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """How the host's instances are, and what it is to run; of the logs in `logs`, all of it."""
        asked, sender = SYNC.read(bodies.read_report(req))["instances"], _sender(req)
        told = [_judged(one, sender) for one in asked]
        news = tuple(InstanceNews(one["instance_id"], one["status"], one["endpoint"], one["error"]) for one in told)
        synced: Synced = self._desk.ask(SyncServices(host_id, news))
        view = self._view(host_id, synced, told)
        if not forwarding.tried(req):
            for answer in self._of_others(Passing.of(req, resp), synced.owners, told):
                view = _merged(view, answer)
            if not self._cluster.ready or not {*synced.logs, *synced.owners}.issubset(view["logs"]):
                view["partial"] = True
        resp.data = dump(view)

    def _view(self, host_id: str, synced: Synced, told: Iterable[Mapping[str, Any]]) -> View:
        decided = [log for log in synced.logs if self._cluster.in_contact(log)]
        listed = [(service, instance) for service, instance in synced.wanted if instance.id[TAG] in decided]
        sources = [Source(instance.id, service.id, host_id, instance.revision) for service, instance in listed]
        parts = {one["instance_id"]: one["output"] for one in told if one["output"] and one["instance_id"][TAG] in decided}
        at = self._outputs.take(sources, parts)
        return {
            "instances": [{**wanted(service, instance), "outputAt": at[instance.id]} for service, instance in listed],
            "stop": [instance_id for instance_id in synced.stop if instance_id[TAG] in decided],
            "logs": decided,
            "leaseMs": synced.lease_ms,
            "digest": synced.digest,
        }

    def _of_others(self, passing: Passing, logs: Iterable[str], told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the owners of these logs say, as far as they answer; each hears of its own instances."""
        owned: dict[str, set[str]] = {}
        for log in logs:
            owner = self._cluster.owner(log)
            if owner is not None and owner != self._cluster.node:
                owned.setdefault(owner, set()).add(log)
        if not owned:
            return []
        requests = {
            node: passing.instead({"instances": [_entry(one) for one in told if one["instance_id"][TAG] in its]})
            for node, its in owned.items()
        }
        return [answer for answer in self._forwarding.tell(requests).values() if answer is not None and _is_sync(answer)]


def _sender(req: Request) -> Sender:
    return Sender(None if forwarding.tried(req) else req.remote_addr)


def _judged(asked: dict[str, Any], sender: Sender) -> dict[str, Any]:
    """What a host says about an instance, with its whole endpoint, or with the reason for which there is none."""
    said = {name: value for name, value in asked.items() if name != "port"}
    port, endpoint = asked.get("port"), asked["endpoint"]
    try:
        if endpoint is not None:
            said["endpoint"] = sender.check(endpoint)
        elif port is not None and sender.address is not None:
            said["endpoint"] = sender.at(port)
    except BadEndpoint as error:
        said |= {"endpoint": None, "error": asked["error"] or str(error)}
    return said


def _entry(said: Mapping[str, Any]) -> View:
    """What a host says about an instance, as it is passed on."""
    view: View = {"instanceId": said["instance_id"], "status": said["status"], **_without_none(said, "endpoint", "error")}
    if said["output"] is not None:
        at, text = said["output"]
        view["output"] = {"at": at, "text": text}
    return view


def _without_none(values: Mapping[str, Any], *names: str) -> View:
    return {name: values[name] for name in names if values[name] is not None}


def _is_sync(answer: Mapping[str, Any]) -> bool:
    """Is it what another coordinator says to a host that synchronizes?"""
    return all(isinstance(answer.get(name), list) for name in ("instances", "stop", "logs"))


def _merged(view: View, answer: Mapping[str, Any]) -> View:
    """What is said here and there; an instance that somebody wants is not stopped."""
    return {**view, **{name: [*view[name], *answer[name]] for name in ("instances", "stop", "logs")}}
