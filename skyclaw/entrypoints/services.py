"""The verbs that look at services, and change how many run or which revision."""

import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import rendering, service_rendering
from skyclaw.entrypoints.finding import Advised, find_service
from skyclaw.entrypoints.remedies import remedied
from skyclaw.entrypoints.rollout import follow
from skyclaw.entrypoints.session import Session
from skyclaw.errors import Refused, ServerRefused, UsageWrong
from skyclaw.outside.paths import service_path

MOST_REPLICAS = 64
MOST_REVISIONS = 10**9


def list_services(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """All services: a table on a terminal, and JSON for a program."""
    answer = session.coordinators.get("/v1/services")
    if json or not rendering.is_terminal(sys.stdout):
        rendering.show_json(answer)
    elif answer["services"]:
        service_rendering.show_services(answer["services"])
    else:
        rendering.say("no services yet; deploy one with: skyclaw deploy-service <name> <command> [args...]")
    return 0


def service(session: Session, words: Sequence[str], json: bool = False) -> int:
    """One service, with its instances and revisions."""
    found = find_service(session.coordinators, words[0])
    if json:
        rendering.show_json(found)
    else:
        names = {host["id"]: host["name"] for host in session.coordinators.get("/v1/hosts")["hosts"]}
        service_rendering.show_service(found, names)
    return 0


def scale(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Say how many instances are wanted."""
    replicas = _number("the number of instances", words[1], MOST_REPLICAS)
    changed = _changed(session, words[0], "scale", {"replicas": replicas})
    if changed.get("stopped") and not json:
        what = "its instance" if replicas == 1 else f"its {replicas} instances"
        line = f"{service_rendering.sentence(changed)}; start {what} with: skyclaw restart {changed['name']}"
        rendering.show(rendering.safe_line(line))
        return 0
    return _tell(session, changed, {"json": json})


def stop_service(session: Session, words: Sequence[str], json: bool = False) -> int:
    """Run no instance until it is deployed or restarted."""
    return _tell(session, _changed(session, words[0], "stop", {}), {"json": json})


def restart(session: Session, words: Sequence[str], **options: Any) -> int:
    """Replace its instances one after the other; start it when it was stopped."""
    return _tell(session, _changed(session, words[0], "restart", {}), options)


def rollback(session: Session, words: Sequence[str], **options: Any) -> int:
    """Go back to a former revision, to the one before without a number; start the service when it was stopped."""
    body = {"revision": _number("the revision", words[1], MOST_REVISIONS)} if len(words) > 1 else {}
    return _tell(session, _changed(session, words[0], "rollback", body), options)


def remove_service(session: Session, words: Sequence[str], json: bool = False) -> int:
    """End its instances and forget it."""
    found = find_service(session.coordinators, words[0])
    removed = session.coordinators.delete(service_path(found["id"]), uuid.uuid4().hex)["service"]
    if json:
        rendering.show_json(removed)
    else:
        rendering.show(rendering.safe_line(f"{found['name']} is removed"))
    return 0


def explain(session: Session, found: Mapping[str, Any], as_json: bool) -> int:
    """Why a service is as it is, host by host."""
    answer = session.coordinators.get(service_path(found["id"], "explain"))
    if as_json:
        rendering.show_json(answer)
        return 0
    for reason in answer["reasons"]:
        rendering.show(rendering.safe_line(remedied(reason)))
    if answer.get("hosts"):
        rows = [(host["name"], "yes" if host["can"] else "no", remedied(host["reason"])) for host in answer["hosts"]]
        rendering.show_table(("HOST", "CAN", "REASON"), rows, {"HOST": 12, "REASON": 20})
    return 0


def _changed(session: Session, typed: str, change: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The service after the change. A refusal of the change says where to look."""
    found = find_service(session.coordinators, typed)
    try:
        changed: dict[str, Any] = session.coordinators.post(service_path(found["id"], change), body, key=uuid.uuid4().hex)["service"]
    except ServerRefused as refusal:
        if refusal.code != Refused.code:
            raise
        shown = "the revisions" if change == "rollback" else "how it is"
        raise Advised(refusal, f"skyclaw service {found['name']} shows {shown}") from refusal
    return changed


def _tell(session: Session, changed: dict[str, Any], options: Mapping[str, Any]) -> int:
    if options.get("wait"):
        return follow(session, changed, bool(options.get("json")))
    if options.get("json"):
        rendering.show_json(changed)
    else:
        rendering.show(rendering.safe_line(service_rendering.sentence(changed)))
    return 0


def _number(what: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:15]) <= most):
        raise UsageWrong(f"{what} must be a whole number from 1 to {most}, not {text}")
    return int(text)
