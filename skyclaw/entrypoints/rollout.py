"""Following a rollout until the new revision serves, or has failed; Ctrl-C lets go of it."""

import time
from collections.abc import Mapping
from typing import Any

from skyclaw.entrypoints import rendering, service_rendering
from skyclaw.entrypoints.session import Session, tell
from skyclaw.entrypoints.waiting import INTERRUPTED, PATIENCE_S, REASON_AFTER_S, REASON_AGAIN_S, TROUBLE_AFTER_S
from skyclaw.errors import ServerRefused, Unreachable
from skyclaw.outside.coordinators import NOT_THERE
from skyclaw.outside.paths import service_path

PAUSE_S = 0.25
NEW_S = 5.0  # until every coordinator has heard of a new service


def follow(session: Session, service: dict[str, Any], as_json: bool) -> int:
    """Wait until the rollout of the service's present revision has ended: 0 when it serves, 1 (and the reason) when not, 130 at Ctrl-C."""
    revision = service["revision"]
    try:
        service = _to_the_end(session, service, revision)
    except KeyboardInterrupt:
        rendering.say(f"detached, the rollout goes on; look at it with: skyclaw service {service['name']}")
        return INTERRUPTED
    reason = failure(service, revision)
    if as_json:
        rendering.show_json(service)
    if reason:
        rendering.say(f"revision {revision} of {service['name']} failed: {reason}")
        return 1
    if not as_json:
        rendering.say(service_rendering.sentence(service))
    return 0


def ended(service: Mapping[str, Any], revision: int) -> bool:
    """Whether that revision serves, has failed, or is not wanted any more. The first one is tried for ever: here, one failure is enough."""
    newest = service["rollout"]["revision"]
    if newest != revision:
        return bool(newest > revision)  # an older one is shown by a coordinator that has not heard of it yet
    first = not service.get("goodRevision")
    return _is_over(service) or service["rollout"]["state"] != "rolling" or (first and service["status"] == "failed")


def failure(service: Mapping[str, Any], revision: int) -> str:
    """Why that revision does not serve; empty when it does."""
    rollout = service["rollout"]
    if rollout["revision"] != revision:
        return f"revision {rollout['revision']} has taken its place"
    if _is_over(service):
        return "the service was stopped or removed"
    if rollout["state"] == "succeeded":
        return ""
    return service_rendering.problem(service) or "it did not become healthy"


def _is_over(service: Mapping[str, Any]) -> bool:
    return bool(service.get("stopped") or service.get("removed")) and service["rollout"]["state"] != "succeeded"


def _to_the_end(session: Session, service: dict[str, Any], revision: int) -> dict[str, Any]:
    """Ask until it has ended. A coordinator that is away for a while is asked again."""
    path, heard, told = service_path(service["id"]), time.monotonic(), ""
    reasons = _Reasons(session, service)
    while not ended(service, revision):
        time.sleep(PAUSE_S)
        try:
            service, heard = session.coordinators.get(path)["service"], time.monotonic()
            reasons.tell_news(service)
            told = ""
        except (Unreachable, ServerRefused) as trouble:
            patience_s = PATIENCE_S
            if isinstance(trouble, ServerRefused) and trouble.status < 500:
                patience_s = NEW_S if trouble.status == NOT_THERE else 0.0
            if time.monotonic() - heard > patience_s:
                raise
            if time.monotonic() - heard > TROUBLE_AFTER_S and str(trouble) != told:
                told = str(trouble)
                tell(told)
    return service


class _Reasons:
    """Says why a rollout takes long, and again when the reason is another one."""

    def __init__(self, session: Session, service: Mapping[str, Any]) -> None:
        self._session, self._service = session, service
        self._next = time.monotonic() + REASON_AFTER_S
        self._said = ""

    def tell_news(self, service: Mapping[str, Any]) -> None:
        """Say the present reason when it is time and there is a new one. Raises Unreachable, and ServerRefused."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REASON_AGAIN_S
        reason = self._reason(service)
        if reason != self._said:
            self._said = reason
            rendering.say(f"revision {self._service['revision']} of {service['name']} does not serve yet: {reason}")

    def _reason(self, service: Mapping[str, Any]) -> str:
        if error := service_rendering.problem(service):
            return error
        if service["status"] == "running":  # the former revision
            return "it is not healthy yet"
        answer = self._session.coordinators.get(service_path(service["id"], "explain"))
        return str(next(iter(answer["reasons"]), "it is not healthy yet"))
