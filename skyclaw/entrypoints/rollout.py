"""Following a rollout until the new revision serves, or has failed; Ctrl-C lets go of it."""

import time
from collections.abc import Mapping
from typing import Any

from skyclaw.entrypoints import rendering, service_rendering
from skyclaw.entrypoints.remedies import is_refusal, remedied
from skyclaw.entrypoints.session import Session, tell
from skyclaw.entrypoints.waiting import INTERRUPTED, PATIENCE_S, REASON_AGAIN_S, TROUBLE_AFTER_S
from skyclaw.errors import ServerRefused, Unreachable
from skyclaw.outside.coordinators import NOT_THERE
from skyclaw.outside.paths import service_path

PAUSE_S = 0.25
REASON_AFTER_S = 2.0  # of a rollout, before it is said what it waits for
NEW_S = 5.0  # until every coordinator has heard of a new service


def follow(session: Session, service: dict[str, Any], as_json: bool) -> int:
    """Wait until the rollout of the service's present revision has ended: 0 when it serves, 1 (and the reason) when not, 130 at Ctrl-C."""
    revision, waiting = service["revision"], _Waiting(session, service)
    try:
        service = waiting.to_the_end(service)
    except KeyboardInterrupt:
        rendering.say(f"detached, the rollout goes on; look at it with: skyclaw service {service['name']}")
        return INTERRUPTED
    reason = failure(service, revision)
    if as_json:
        rendering.show_json(service)
    if reason:
        rendering.say(_verdict(service, revision, reason, waiting.was_placed))
        return 1
    if not as_json:
        rendering.say(service_rendering.sentence(service))
    return 0


def _verdict(service: Mapping[str, Any], revision: int, reason: str, was_placed: bool) -> str:
    """That the revision does not serve, why, what becomes of it, and what to type to learn more."""
    name, beginning = service["name"], f"revision {revision} of {service['name']}"
    if service["rollout"]["revision"] != revision or _is_over(service):
        return f"{beginning} failed: {reason}; skyclaw service {name} shows how it is"
    is_first = service["rollout"]["state"] == "rolling"
    if was_placed and not is_refusal(reason):
        learn = f"skyclaw service-logs{'' if is_first else ' --all'} {name} shows what it wrote"
    else:
        learn = f"skyclaw explain {name} shows why, host by host"
    return f"{beginning} {f'does not serve yet: {reason}; it is tried again' if is_first else f'failed: {reason}'}; {learn}"


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


class _Waiting:
    """Asks how a rollout is until it has ended, and says what it waits for, and again when that is something else."""

    def __init__(self, session: Session, service: Mapping[str, Any]) -> None:
        self._session, self._id, self._revision = session, service["id"], service["revision"]
        self._next = time.monotonic() + REASON_AFTER_S
        self._said = ""
        self.was_placed = False

    def to_the_end(self, service: dict[str, Any]) -> dict[str, Any]:
        """The service when the rollout has ended. A coordinator that is away for a while is asked again."""
        heard, told = time.monotonic(), ""
        while not ended(service, self._revision):
            time.sleep(PAUSE_S)
            try:
                service, heard = self._session.coordinators.get(service_path(self._id))["service"], time.monotonic()
                self._look_at(service)
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

    def _look_at(self, service: Mapping[str, Any]) -> None:
        """Say what is waited for when it is time and that is news. Raises Unreachable, and ServerRefused."""
        self.was_placed = self.was_placed or any(one.get("revision") == self._revision for one in service["assignments"])
        if time.monotonic() < self._next or ended(service, self._revision):
            return
        self._next = time.monotonic() + REASON_AGAIN_S
        reason = service_rendering.problem(service) or self._explained()
        if reason != self._said:
            self._said = reason
            rendering.say(f"revision {self._revision} of {service['name']} does not serve yet: {reason}")

    def _explained(self) -> str:
        """What the coordinator says of it; its first reason counts the instances, which says little."""
        first, *more = self._session.coordinators.get(service_path(self._id, "explain"))["reasons"] or ["it is not healthy yet"]
        return remedied("; ".join(map(str, more)) or str(first))
