"""/v1/network/logs: how the logs are, and what an operator may do with one that has lost its voters."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from falcon import Request, Response
from marshmallow import ValidationError

from actors.log_views import LogSeen
from api import bodies
from api.fields import Flag, Strict, Text, Whole, problem, wrong
from api.forwarding import accepted
from api.logs_admin import LogsAdmin
from api.parts import Cluster
from api.peering import Network
from api.schemas import NULL_IS_MISSING, SHORT_TEXT, Closed
from api.views import View, dump
from skyclaw.cluster.peer_status import NAME
from skyclaw.errors import Refused, Unknown
from skyclaw.records import GENESIS_EPOCH, Epoch
from skyclaw.store.event_log import Head

PATH = "/v1/network/logs"
MAX_VOTERS = 64
ASK_S = 2.0  # for another coordinator to say how far its copies go
ASK_AT_ONCE = 8


class UnknownLog(Unknown):
    """There is no copy of such a log here."""

    code = "unknown_log"


class WrongVoters(Refused):
    """These cannot be the voters of the log."""

    code = "wrong_voters"


class BetterCopy(Refused):
    """Another coordinator has a better copy of the log."""

    code = "better_copy"


class NotOwned(Refused):
    """Only the owner of a log can hand it over."""

    code = "not_owned"


class Place(NamedTuple):
    """How far a copy goes; the greater, the more complete it is."""

    epoch: Epoch
    end: int

    def __str__(self) -> str:
        return f"{self.end} of epoch {self.epoch}"


class Voters(Strict):
    """A list of node ids, each once."""

    def read(self, value: Any) -> frozenset[str]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_VOTERS:
            raise problem(f"must be a list of 1 to {MAX_VOTERS} ids of coordinators")
        for node in value:
            if not isinstance(node, str) or not NAME.fullmatch(node):
                raise wrong("the ids of coordinators", node)
        return frozenset(value)


class ForceRequest(Closed):
    """An operator gives up the former voters of a log."""

    voters = Voters(required=True, error_messages=NULL_IS_MISSING)
    copies = Whole(1, MAX_VOTERS, required=True, error_messages=NULL_IS_MISSING)
    operator = Text(SHORT_TEXT, "a text of 1 to 256 characters", load_default="an operator")
    reason = Text(SHORT_TEXT, "a text of 1 to 256 characters", required=True, error_messages=NULL_IS_MISSING)
    from_behind = Flag(data_key="fromBehind", load_default=False)


class TransferRequest(Closed):
    """The owner of a log is to hand it over."""

    to = Text(NAME, "the id of a coordinator", required=True, error_messages=NULL_IS_MISSING)


FORCE, TRANSFER = ForceRequest(), TransferRequest()


class Part:
    """Base: what knows the logs and the network, and the label of this coordinator."""

    def __init__(self, admin: LogsAdmin, network: Network, cluster: Cluster, label: str) -> None:
        self._admin, self._network, self._cluster, self._label = admin, network, cluster, label

    def _seen(self, log: str) -> LogSeen:
        found = next((seen for seen in self._admin.views() if seen.log == log), None)
        if found is None:
            raise UnknownLog(f"there is no copy of log {log} at {self._network.node}", {"log": log})
        return found


class NetworkLogs(Part):
    """/v1/network/logs."""

    def on_get(self, _req: Request, resp: Response) -> None:
        """Every log that has a copy here: who owns it, how far it goes, who votes, and how far behind the others are."""
        logs = [self._view(seen) for seen in self._admin.views()]
        resp.data = dump({"node": self._network.node, "nodeId": self._label, "logs": logs})

    def _view(self, seen: LogSeen) -> View:
        head = self._admin.head(seen.log)
        labels = {peer.node: peer.label for peer in self._network.peers()} | {self._network.node: self._label}
        view: View = {"log": seen.log, "owner": seen.owner}
        if seen.owner in labels:
            view["ownerLabel"] = labels[seen.owner]
        view |= {"epoch": seen.epoch, "founder": seen.founder, "end": seen.end, "committed": seen.committed}
        view |= {"lastEpoch": head.epoch, "lastPosition": head.seq, "voters": list(seen.voters), "copies": seen.copies}
        view |= {"owned": seen.owned, "inContact": seen.in_contact if seen.owned else None, "settled": seen.settled}
        return {**view, "lag": self._lag(seen)}

    def _lag(self, seen: LogSeen) -> dict[str, int]:
        """Events that others lack: voters as the owner hears of them, the peers by what they said last of what they have committed.

        The owner lacks nothing, and whoever is neither is gone.
        """
        peers = {peer.node: peer for peer in self._network.peers()}
        behind = {node: max(0, seen.committed - peer.positions[seen.log]) for node, peer in peers.items() if seen.log in peer.positions}
        behind |= {voter.node: max(0, seen.end - voter.end) for voter in seen.followers}
        return {node: events for node, events in behind.items() if node != seen.owner and (node in peers or node in seen.voters)}


class LogForce(Part):
    """/v1/network/logs/{log}/force."""

    def on_post(self, req: Request, resp: Response, log: str) -> None:
        """Own the log with new voters; what nobody among the reachable ones has is lost. Raises UnknownLog, WrongVoters, BetterCopy."""
        asked = FORCE.read(bodies.read(req))
        seen = self._seen(log)
        self._check_voters(asked["voters"], asked["copies"])
        if not asked["from_behind"]:
            self._check_others(log)
        operator = f"{asked['operator']}: {asked['reason']}"
        epoch = self._admin.force(log, asked["voters"], asked["copies"], operator)
        resp.data = dump({"ok": True, "nodeId": self._label, "log": log, "epoch": epoch, "before": seen.epoch})

    def _check_voters(self, voters: frozenset[str], copies: int) -> None:
        peers = {peer.node: peer for peer in self._network.peers()}
        own = self._network.node
        if own not in voters:
            raise WrongVoters(f"the coordinator that takes the log over must be one of its voters: {own}", {"node": own})
        if copies > len(voters):
            raise ValidationError({"copies": [f"must not be more than the {len(voters)} voters"]})
        unknown = sorted(voters - peers.keys() - {own})
        if unknown:
            raise WrongVoters(f"{unknown[0]} is not known here, so it would never vote", {"unknown": unknown})
        silent = sorted(node for node in voters if node in peers and peers[node].in_doubt)
        if len(voters) - len(silent) < copies:
            raise WrongVoters(f"{copies} copies need {copies} voters that can be reached; {', '.join(silent)} cannot", {"silent": silent})

    def _check_others(self, log: str) -> None:
        """Raises BetterCopy when one of the others that answer has more than this one."""
        own, others = _place_of(self._admin.head(log)), self._places(log)
        ahead = {node: place for node, place in others.items() if place > own}
        if ahead:
            node, place = max(ahead.items(), key=lambda found: found[1])
            sentence = f"{node} has a better copy of log {log}, up to {place}; this one ends at {own}: take it over there"
            raise BetterCopy(sentence, {"node": node, "position": place.end, "epoch": str(place.epoch)})

    def _places(self, log: str) -> dict[str, Place]:
        """How far the copies of the others go that answer."""
        nodes = [peer.node for peer in self._network.peers()]
        if not nodes:
            return {}
        with ThreadPoolExecutor(ASK_AT_ONCE, thread_name_prefix="positions") as askers:
            said = askers.map(self._ask, nodes)
            return {node: place for node, answer in zip(nodes, said, strict=True) if (place := _place_in(answer, log)) is not None}

    def _ask(self, node: str) -> dict[str, Any] | None:
        return accepted(lambda: self._cluster.forward(node, "GET", PATH, {}, b"", ASK_S))


class LogTransfer(Part):
    """/v1/network/logs/{log}/transfer."""

    def on_post(self, req: Request, resp: Response, log: str) -> None:
        """Hand the log over to another voter, if that one can take it; nothing is lost. Raises UnknownLog, NotOwned, WrongVoters."""
        to, seen = TRANSFER.read(bodies.read(req))["to"], self._seen(log)
        if not seen.owned:
            raise NotOwned(f"log {log} is owned by {seen.owner or 'nobody'}", {"owner": seen.owner})
        if to not in seen.voters:
            raise WrongVoters(f"{to} does not vote in log {log}", {"voters": list(seen.voters)})
        self._admin.transfer(log, to)
        resp.data = dump({"ok": True, "nodeId": self._label, "log": log, "to": to})


def _place_of(head: Head) -> Place:
    return Place(Epoch.parse(head.epoch) if head.epoch else GENESIS_EPOCH, head.seq)


def _place_in(answer: dict[str, Any] | None, log: str) -> Place | None:
    """How far the copy of a log goes, by what its coordinator says; None when it does not say so."""
    try:
        found = next(one for one in (answer or {})["logs"] if one["log"] == log)
        return Place(Epoch.parse(found["lastEpoch"]) if found["lastEpoch"] else GENESIS_EPOCH, int(found["lastPosition"]))
    except (KeyError, StopIteration, TypeError, ValueError, AttributeError):
        return None
