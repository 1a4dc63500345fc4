"""/v1/replicate: what coordinators tell each other about logs, and what the programs of the TypeScript version push instead."""

import threading
from collections.abc import Container, Iterator
from typing import Any

import orjson
from falcon import Request, Response

from api import bodies
from api.errors import HttpRefused
from api.network import refuse_evicted
from api.parts import Archive, Desk
from api.peering import Network, Replication
from api.targets import HOST_ID
from api.views import dump
from skyclaw.answers import HostsSeen, ServicesSeen
from skyclaw.cluster import wire
from skyclaw.cluster.messages import Message, Pull
from skyclaw.cluster.peer_status import NAME
from skyclaw.cluster.wire import BadMessage
from skyclaw.commands import ListHosts, ListServices
from skyclaw.errors import Refused
from skyclaw.ids import JOB_ID

ANSWER_MS = 3_000  # for acknowledgements to leave with the answer; later ones travel by themselves
MAX_WAIT_MS = 5_000
MAX_PARKED = 16  # questions that hold a thread of the server; more are answered at once


class ForeignSnapshot(Refused):
    """The snapshot has records that are not known here: take them over with `skyclaw import`."""

    code = "foreign_snapshot"


class WrongNode(Refused):
    """Another coordinator answers here."""

    code = "wrong_node"


class Exchange:
    """Base: messages in, messages out, between two nodes that name themselves and each other."""

    def __init__(self, network: Network, replication: Replication) -> None:
        self._network, self._replication = network, replication

    def _opened(self, body: dict[str, Any]) -> tuple[str, list[Message]]:
        """The sender and its messages; raises BadMessage, HttpRefused."""
        sender, to = body.get("from"), body.get("to")
        if not isinstance(sender, str) or not isinstance(to, str) or not NAME.fullmatch(sender):
            raise BadMessage("from and to must be the ids of nodes")
        if to != self._network.node:
            raise WrongNode("another coordinator answers here", {"node": self._network.node})
        if sender == self._network.node:
            raise WrongNode("a coordinator does not talk to itself; another one has its id", {"node": sender})
        refuse_evicted(self._network, sender)
        return sender, wire.unpack(body.get("messages"))

    def _answer(self, resp: Response, sender: str, messages: list[Message], wait_ms: int) -> None:
        answer = self._replication.receive(sender, messages, wait_ms)
        resp.data = orjson.dumps({"from": self._network.node, "to": sender, "messages": wire.pack(answer)})


class ReplicationMessages(Exchange):
    """/v1/replicate/messages."""

    def on_post(self, req: Request, resp: Response) -> None:
        """Messages of one node, in order; what there is to answer soon goes back at once."""
        sender, messages = self._opened(bodies.read_replication(req))
        self._answer(resp, sender, messages, ANSWER_MS)


class ReplicationPull(Exchange):
    """/v1/replicate/pull."""

    def __init__(self, network: Network, replication: Replication) -> None:
        super().__init__(network, replication)
        self._parking = threading.BoundedSemaphore(MAX_PARKED)

    def on_post(self, req: Request, resp: Response) -> None:
        """One Pull, which may wait for news for `waitMs`, at most five seconds."""
        body = bodies.read_replication(req)
        wait_ms = body.get("waitMs", 0)
        sender, messages = self._opened(body)
        if type(wait_ms) is not int or wait_ms < 0 or len(messages) != 1 or not isinstance(messages[0], Pull):
            raise BadMessage("there must be one Pull, and waitMs must be a whole number")
        if not self._parking.acquire(blocking=False):
            return self._answer(resp, sender, messages, 0)
        try:
            return self._answer(resp, sender, messages, min(wait_ms, MAX_WAIT_MS))
        finally:
            self._parking.release()


class ReplicationSnapshot:
    """/v1/replicate/snapshot: coordinators of the TypeScript version push their whole state. It is never taken over unseen."""

    def __init__(self, desk: Desk, archive: Archive, label: str) -> None:
        self._desk, self._archive, self._label = desk, archive, label

    def on_post(self, req: Request, resp: Response) -> None:
        """Fine when there is nothing new in it; raises ForeignSnapshot."""
        body = bodies.read_replication(req)
        hosts: HostsSeen = self._desk.ask(ListHosts())
        known = {seen.host.id for seen in hosts.hosts}
        services: ServicesSeen = self._desk.ask(ListServices())
        foreign = _first_unknown(_ids(body, "services"), {service.id for service in services.services})
        foreign = foreign or _first_unknown(_ids(body, "hosts"), known)
        foreign = foreign or next((one for one in _ids(body, "jobs") if not self._has(one)), None)
        if foreign is not None:
            raise ForeignSnapshot(details={"first": foreign[:64]})
        resp.data = dump({"ok": True, "changed": False, "nodeId": self._label})

    def _has(self, job_id: str) -> bool:
        return JOB_ID.fullmatch(job_id) is not None and self._archive.job(job_id) is not None


def _first_unknown(ids: Iterator[str], known: Container[str]) -> str | None:
    """The first id that is not known."""
    return next((one for one in ids if one not in known), None)


def _ids(body: dict[str, Any], name: str) -> Iterator[str]:
    """The ids of the records under that name; raises HttpRefused when they are not records."""
    records = body.get(name, [])
    if not isinstance(records, list):
        raise HttpRefused(400, "invalid", f"{name} must be a list")
    for record in records:
        if not isinstance(record, dict) or not isinstance(record.get("id"), str) or not HOST_ID.fullmatch(record["id"]):
            raise HttpRefused(400, "invalid", f"{name} must be a list of objects with an id")
        yield record["id"]
