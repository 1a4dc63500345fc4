"""`skyclaw force-takeover`: an operator gives a log that has lost its voters to others. It shows first what that may cost."""

import getpass
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from skyclaw.entrypoints import option_values, rendering
from skyclaw.entrypoints.network import find_node, labels_in, one_coordinator, seen_from
from skyclaw.entrypoints.session import Session
from skyclaw.errors import ServerRefused, SkyclawError, UsageWrong
from skyclaw.outside.coordinators import Coordinators
from skyclaw.trust.peer_proofs import proven_token

ASK_S = 3.0  # for each coordinator to say how far its copies go
ASK_AT_ONCE = 8
NOT_SAID, REFUSED, LONGEST = 2, 6, 256
ALL, NO_COPY = "all", "has no copy"
MOST_COPIES = 64
NEEDED = ("log",)
NEEDED_TO_DO = ("reason",)


@dataclass(frozen=True, slots=True)
class CopySeen:
    """A coordinator's copy of the log; `held` is None when it has none, or could not be asked, for which `trouble` is the reason."""

    node: str
    url: str
    held: dict[str, Any] | None
    trouble: str = ""

    @property
    def silent(self) -> bool:
        """Could it not be asked?"""
        return self.held is None and self.trouble != NO_COPY

    @property
    def place(self) -> tuple[int, int, str, int]:
        """How far it goes; the greater, the more complete it is."""
        if self.held is None:
            return -1, -1, "", -1
        generation, counter, node = self.held["lastEpoch"].split(".", 2) if self.held["lastEpoch"] else ("0", "0", "")
        return int(generation), int(counter), node, int(self.held["lastPosition"])

    @property
    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {"node": self.node, "url": self.url, "held": self.held, "trouble": self.trouble or None}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a coordinator says of all its logs; None when it could not be asked, for which `trouble` is the reason."""

    node: str
    url: str
    logs: list[dict[str, Any]] | None
    trouble: str = ""

    def copy(self, log: str) -> CopySeen:
        """Its copy of one log."""
        if self.logs is None:
            return CopySeen(self.node, self.url, None, self.trouble)
        found = next((seen for seen in self.logs if seen["log"] == log), None)
        return CopySeen(self.node, self.url, found, "" if found else NO_COPY)


@dataclass(frozen=True, slots=True)
class Plan:
    """A log that is to be taken over: its copies, the best first, and what may come of it."""

    log: dict[str, Any]
    copies: list[CopySeen]
    dangers: list[str]

    @property
    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {"log": self.log["log"], "copies": [copy.as_json for copy in self.copies], "dangers": self.dangers}


def force_takeover(
    session: Session,
    words: Sequence[str],  # noqa: ARG001
    i_know: bool = False,
    from_behind: bool = False,
    json: bool = False,
    **options: str,
) -> int:
    """Show the copies; with --i-know take the log, or all that have lost their owners, over, else exit with 2."""
    copies_wanted = _checked(options, NEEDED + NEEDED_TO_DO * i_know)
    coordinators = one_coordinator(session, "force-takeover")
    known, held = coordinators.get("/v1/network/peers"), coordinators.get("/v1/network/logs")
    whole, labels = options["log"] == ALL, labels_in(known, held)
    logs = _without_owner(known, held) if whole else [_log_in(held, options["log"])]
    voters = sorted({find_node(name, labels) for name in option_values.names([options.get("voters", held["node"])])})
    heard = _heard(session, known, held)
    plans = [_plan(log, heard, held["node"], voters, copies_wanted) for log in logs]
    if not json:
        _show(plans)
    if not i_know:
        if json:
            rendering.show_json(_told([{**plan.as_json, "done": False} for plan in plans], whole))
        elif plans:
            rendering.say(f"nothing was done; the same command with --i-know takes {'them' if whole else 'the log'} over")
        return NOT_SAID if plans else 0
    body = {"voters": voters, "copies": copies_wanted, "reason": options["reason"], "operator": _operator(), "fromBehind": from_behind}
    outcomes = [_taken(coordinators, plan, body, json, whole) for plan in plans]
    if json:
        rendering.show_json(_told(outcomes, whole))
    return 0 if all(outcome["done"] for outcome in outcomes) else REFUSED


def _checked(options: dict[str, str], needed: Sequence[str]) -> int:
    """The number of copies, when all that is needed is there and can be used; raises UsageWrong."""
    if missing := [f"--{name}" for name in needed if name not in options]:
        raise UsageWrong(f"force-takeover requires {', '.join(missing)}; skyclaw force-takeover --help shows how")
    reason = options.get("reason", "")
    if not reason.isprintable() or len(reason) > LONGEST:
        raise UsageWrong(f"--reason must be at most {LONGEST} printable characters")
    return option_values.whole("copies", options.get("copies", "1"), 1, MOST_COPIES)


def _taken(coordinators: Coordinators, plan: Plan, body: dict[str, Any], as_json: bool, goes_on: bool) -> dict[str, Any]:
    """Take one log over, and say so; when others are to follow, a refusal is said too."""
    tag = plan.log["log"]
    try:
        answer = coordinators.post(f"/v1/network/logs/{tag}/force", body)
    except ServerRefused as refusal:
        if not goes_on or refusal.status in (401, 403):
            raise
        if not as_json:
            rendering.say(f"log {tag} was not taken over: {refusal}")
        return {**plan.as_json, "done": False, "error": str(refusal)}
    if not as_json:
        rendering.show(rendering.safe_line(f"{answer['nodeId']} owns log {tag} from now on, in epoch {answer['epoch']}"))
    return {**answer, **plan.as_json, "done": True}


def _told(outcomes: list[dict[str, Any]], whole: bool) -> dict[str, Any]:
    return {"logs": outcomes} if whole else outcomes[0]


def _without_owner(known: dict[str, Any], held: dict[str, Any]) -> list[dict[str, Any]]:
    """The logs whose owner cannot be seen, or that the asked coordinator owned last and does not own now."""
    seen = seen_from(known, held)
    return [log for log in held["logs"] if log["owner"] not in seen or (log["owner"] == held["node"] and not log["owned"])]


def _log_in(held: dict[str, Any], typed: str) -> dict[str, Any]:
    """The only log whose tag begins as it was typed; raises UsageWrong."""
    found: list[dict[str, Any]] = [log for log in held["logs"] if log["log"].startswith(typed)]
    if len(found) == 1:
        return found[0]
    tags = ", ".join(log["log"] for log in held["logs"]) or "none"
    raise UsageWrong(f"--log={typed} is {'not unique' if found else 'no log'} at {held['nodeId']}; it has copies of: {tags}")


def _plan(log: dict[str, Any], heard: Sequence[Heard], own: str, voters: Sequence[str], wanted: int) -> Plan:
    copies = [one.copy(log["log"]) for one in heard]
    copies.sort(key=lambda copy: copy.place, reverse=True)
    return Plan(log, copies, _dangers(log, copies, own, voters, wanted))


def _heard(session: Session, known: dict[str, Any], held: dict[str, Any]) -> list[Heard]:
    """What the asked coordinator has, and those of the others that can be reached from here."""
    token = session.settings.token

    def ask(one: dict[str, Any]) -> Heard:
        other = Coordinators((one["url"],), token, ASK_S)
        try:
            if not one["reachable"] and token and not _proves_itself(one, token):
                return Heard(one["node"], one["url"], None, "not asked: somebody else may be there now")
            return Heard(one["node"], one["url"], other.get("/v1/network/logs")["logs"])
        except SkyclawError as failure:
            return Heard(one["node"], one["url"], None, f"not reached: {failure}")
        finally:
            other.close()

    with ThreadPoolExecutor(ASK_AT_ONCE) as askers:
        return [Heard(held["node"], session.settings.urls[0], held["logs"]), *askers.map(ask, known["coordinators"])]


def _proves_itself(one: dict[str, Any], token: str) -> bool:
    """Does whoever is at this address know the token, which is not to be shown to anybody else? Raises as Coordinators."""
    nonce, stranger = secrets.token_hex(16), Coordinators((one["url"],), None, ASK_S)
    try:
        said = stranger.get("/v1/network/proof", {"nonce": nonce})
    finally:
        stranger.close()
    proofs = [proof for proof in said.get("proofs", ()) if isinstance(proof, str)]
    return said.get("node") == one["node"] and proven_token((token,), nonce, one["url"], one["node"], proofs) is not None


def _dangers(log: dict[str, Any], copies: Sequence[CopySeen], own: str, voters: Sequence[str], wanted: int) -> list[str]:
    """What may come of it, in sentences."""
    here = next(copy for copy in copies if copy.node == own)
    seen = {copy.node for copy in copies if not copy.silent}
    said = []
    if copies[0].place > here.place:
        said.append(f"{copies[0].node} has a better copy: what it has beyond position {here.place[-1]} would be lost; do it there instead")
    if unseen := sorted(set(log["voters"]) - seen):
        said.append(f"what only {', '.join(unseen)} had, who voted and cannot be seen now, is lost for good, acknowledged or not")
    working = [copy.node for copy in copies if copy.held is not None and copy.held["owned"] and copy.held["inContact"]]
    if working:
        said.append(f"{working[0]} owns the log and is at work: nothing needs to be forced")
    if silent := sorted({*unseen, *(copy.node for copy in copies if copy.silent)}):
        said.append(f"{', '.join(silent)} may go on to serve the log until hearing of it; what is accepted there then is lost too")
    there = [node for node in voters if node in seen]
    if len(there) < wanted:
        needed = "1 copy needs a voter that is there" if wanted == 1 else f"{wanted} copies need {wanted} voters that are there"
        found = f"only {', '.join(there)}" if there else "none"
        said.append(f"{needed}; of {', '.join(voters)}, {found} can be seen from here")
    return said


def _show(plans: Sequence[Plan]) -> None:
    if not plans:
        rendering.say("nothing needs to be forced: the owner of each log can be seen")
    for plan in plans:
        if len(plans) > 1:
            rendering.show(f"{'' if plan is plans[0] else chr(10)}log {rendering.safe_line(plan.log['log'])}:")
        _show_copies(plan.copies)
        for danger in plan.dangers:
            rendering.say(f"log {plan.log['log']}: {danger}" if len(plans) > 1 else danger)


def _show_copies(copies: Sequence[CopySeen]) -> None:
    rows = []
    for copy in copies:
        if copy.held is None:
            rows.append((copy.node, copy.url, "-", "-", copy.trouble))
            continue
        generation, counter, node, end = copy.place
        role = "owner" if copy.held["owned"] else "voter" if copy.node in copy.held["voters"] else "copy"
        rows.append((copy.node, copy.url, f"{generation}.{counter} {node}".strip(), f"{end}/{copy.held['committed']}", role))
    rendering.show_table(("NODE", "URL", "LAST EPOCH", "END/COMMITTED", "STATE"), rows, {"URL": 12, "LAST EPOCH": 5, "STATE": 8})


def _operator() -> str:
    """Who sits here, for the record."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        name = ""
    return name if 1 <= len(name) <= LONGEST and name.isprintable() else "an operator"
