"""The verbs about the network of coordinators: look at it, join it, leave it, turn somebody out."""

import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.session import Session
from skyclaw.errors import ServerRefused, UsageWrong
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.peer_addresses import BadPeerUrl, parse

PAUSE_S = 1.0  # between two looks at how far the leaving has come
JOIN_S, LOOK_S = 5.0, 0.2  # that long a new address is watched, so often
NOT_JOINED, CANNOT = 1, 6  # exit codes
SHOWN = 5  # candidates that are named
SHORTEST = 4  # characters of a node's own part of its id

Logs = Sequence[Mapping[str, Any]]


def peers(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """The coordinators, the logs, and the addresses that were not admitted."""
    known, held = session.coordinators.get("/v1/network/peers"), session.coordinators.get("/v1/network/logs")
    if json:
        rendering.show_json({**known, "node": held["node"], "logs": held["logs"]})
        return 0
    _show_coordinators(known, held["node"])
    rendering.show()
    _show_logs(held["logs"], labels_in(known, held), seen_from(known, held))
    for waiting in known["waiting"]:
        rendering.say(f"not admitted: {waiting['url']}: {waiting['reason']}")
    return 0


def join(session: Session, words: Sequence[str], forget: bool = False, json: bool = False) -> int:
    """Tell the coordinator about another one, and wait for what becomes of it; 1 when it is not admitted in time."""
    url = _as_listed(words[0])
    if forget:
        return _forget(session, url, json)
    answer = session.coordinators.post("/v1/network/join", {"url": url})
    reason = _became_of(session, url)
    if json:
        rendering.show_json({**answer, "admitted": not reason, "reason": reason or None})
    elif reason:
        rendering.say(f"{answer['nodeId']} has not admitted {url}: {reason}; skyclaw peers shows how it goes on")
    else:
        rendering.show(rendering.safe_line(f"{answer['nodeId']} has admitted {url}"))
    return NOT_JOINED if reason else 0


def _as_listed(typed: str) -> str:
    """The address as coordinators write it; what is wrong with it is theirs to say."""
    try:
        return str(parse(typed))
    except BadPeerUrl:
        return typed


def _became_of(session: Session, url: str) -> str:
    """Why an address is not admitted, as far as is known in time; empty when it is."""
    ends = time.monotonic() + JOIN_S
    while True:
        known = session.coordinators.get("/v1/network/peers")
        if any(one["url"] == url for one in known["coordinators"]):
            return ""
        reasons = [str(waiting["reason"]) for waiting in known["waiting"] if waiting["url"] == url]
        if time.monotonic() >= ends:
            return next(iter(reasons), "it is not looked at; it may be known under another address, or there is no room for it now")
        time.sleep(LOOK_S)


def _forget(session: Session, url: str, as_json: bool) -> int:
    """Let the coordinator give up an address that is not admitted."""
    try:
        answer = session.coordinators.post("/v1/network/join", {"url": url, "forget": True})
    except ServerRefused as refusal:
        if refusal.status != 400 or "forget" not in refusal.details:
            raise
        rendering.say("this coordinator is of a version that cannot forget addresses; it forgets those that nobody configured in an hour")
        return CANNOT
    if as_json:
        rendering.show_json(answer)
    else:
        rendering.show(rendering.safe_line(f"{answer['nodeId']} has forgotten {url}"))
    return 0


def leave(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """Let the coordinator give up its votes and its logs, and wait until it has."""
    coordinators = one_coordinator(session, "leave")
    coordinators.post("/v1/network/leave", {})
    told = ""
    try:
        while True:
            held = coordinators.get("/v1/network/logs")
            votes, owned = _seats(held["logs"], held["node"])
            if not votes and not owned:
                break
            if (sentence := _still(votes, owned)) != told:
                told = sentence
                rendering.say(f"{held['nodeId']} {sentence}")
            time.sleep(PAUSE_S)
    except KeyboardInterrupt:
        rendering.say("the coordinator goes on leaving; skyclaw leave waits for it again")
        raise
    if json:
        rendering.show_json({"node": held["node"], "nodeId": held["nodeId"], "left": True})
    else:
        rendering.show(rendering.safe_line(f"{held['nodeId']} votes nowhere and owns nothing: it can be stopped"))
    return 0


def evict(session: Session, words: Sequence[str], yes: bool = False, json: bool = False) -> int:
    """Turn a coordinator out for good."""
    known, held = session.coordinators.get("/v1/network/peers"), session.coordinators.get("/v1/network/logs")
    node = find_node(words[0], labels_in(known, held))
    if not yes:
        _confirm(f"{node} will be refused by all coordinators, for good")
    answer = session.coordinators.post("/v1/network/evict", {"node": node})
    if json:
        rendering.show_json(answer)
    else:
        rendering.show(rendering.safe_line(f"{node} is turned out; where it votes it is replaced as soon as another one is level"))
    return 0


def one_coordinator(session: Session, verb: str) -> Coordinators:
    """The one coordinator that is meant; raises UsageWrong when several are, because it matters here which."""
    urls = session.settings.urls
    if len(urls) > 1:
        raise UsageWrong(f"{verb} is about one coordinator; name it: SKYCLAW_COORDINATOR_URLS={urls[0]} skyclaw {verb} ...")
    return session.coordinators


def labels_in(known: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, str]:
    """The labels of all nodes that are told of, by their ids; of those that are not peers, what their ids begin with."""
    nodes = {node for log in held["logs"] for node in (log["owner"], *log["voters"]) if node}
    labels = {node: node.rpartition("#")[0] or node for node in nodes}
    return {**labels, **{one["node"]: one["label"] for one in known["coordinators"]}, held["node"]: held["nodeId"]}


def seen_from(known: Mapping[str, Any], held: Mapping[str, Any]) -> frozenset[str]:
    """The nodes that the asked coordinator can reach, itself among them."""
    return frozenset({held["node"], *(one["node"] for one in known["coordinators"] if one["reachable"])})


def find_node(typed: str, labels: Mapping[str, str]) -> str:
    """The node with that id or label, or the only one whose id begins so; raises UsageWrong."""
    found = [node for node in labels if node == typed]
    found = found or [node for node, label in labels.items() if label == typed]
    found = sorted(found or [node for node in labels if node.startswith(typed)])
    if not found:
        raise UsageWrong(f"no coordinator is called {typed}; skyclaw peers lists them")
    if len(found) > 1:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UsageWrong(f"{typed} is not unique; type more of one of these: {', '.join(found[:SHOWN])}{more}")
    return found[0]


def _confirm(consequence: str) -> None:
    """Ask whoever sits at the terminal; raises UsageWrong when nobody does, or does not want it."""
    if not (rendering.is_terminal(sys.stdin) and rendering.is_terminal(sys.stderr)):
        raise UsageWrong(f"{consequence}; add --yes to do it")
    print(f"[skyclaw] {rendering.safe_line(consequence)}. Do it? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageWrong("nothing was done")


def _seats(logs: Logs, node: str) -> tuple[list[str], list[str]]:
    """The logs in which a node votes, and those that it owns."""
    return [log["log"] for log in logs if node in log["voters"]], [log["log"] for log in logs if log["owner"] == node]


def _still(votes: Sequence[str], owned: Sequence[str]) -> str:
    parts = [f"{word} {', '.join(logs)}" for word, logs in (("votes in", votes), ("owns", owned)) if logs]
    return f"still {' and '.join(parts)}; others take over, as soon as enough of them are level"


def _show_coordinators(known: Mapping[str, Any], own: str) -> None:
    rows = [(known["nodeId"], own, known.get("self", "-"), "asked", "", "")]
    for one in known["coordinators"]:
        state = "ready" if one["ready"] else "catching up"
        seen = rendering.age(one.get("lastSeenAt"))
        rows.append((one["label"], one["node"], one["url"], state if one["reachable"] else "silent", "yes" if one["witness"] else "", seen))
    rendering.show_table(("LABEL", "NODE", "URL", "STATE", "WITNESS", "SEEN"), rows, {"URL": 12, "NODE": 10, "WITNESS": 3})


def _show_logs(logs: Logs, labels: Mapping[str, str], seen: Collection[str]) -> None:
    """A node is shown by its label, or if several have the same by what its id begins with."""
    names = dict(_names(labels))

    def voter(node: str) -> str:
        return names.get(node, node) if node in seen else f"{names.get(node, node)} (not seen)"

    rows = [
        (
            log["log"],
            names.get(log["owner"], log["owner"]) or "nobody",
            _short_epoch(log["epoch"]),
            f"{log['end']}/{log['committed']}",
            ", ".join(f"{names.get(node, node)} {behind}" for node, behind in sorted(log["lag"].items()) if behind) or "none",
            ", ".join(voter(node) for node in log["voters"]),
            log["copies"],
        )
        for log in logs
    ]
    columns = ("LOG", "OWNER", "EPOCH", "END/COMMITTED", "LAG", "VOTERS", "COPIES")
    rendering.show_table(columns, rows, {"LAG": 8, "VOTERS": 10, "OWNER": 6, "EPOCH": 4})


def _names(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    taken = list(labels.values())
    for node, label in labels.items():
        yield node, label if taken.count(label) == 1 else _beginning(node, labels)


def _beginning(node: str, others: Collection[str]) -> str:
    """What a node's id begins with, as far as no other one's does."""
    for length in range(node.find("#") + 1 + SHORTEST, len(node)):
        if sum(other.startswith(node[:length]) for other in others) == 1:
            return node[:length]
    return node


def _short_epoch(epoch: str) -> str:
    """Generation and counter; the node is the owner."""
    return ".".join(epoch.split(".", 2)[:2])
