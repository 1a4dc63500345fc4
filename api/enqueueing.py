"""From the request for a job to the event that accepts it."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from falcon import Request

from api import forwarding
from api.errors import HttpRefused
from api.parts import Parts
from skyclaw.commands import Keyed
from skyclaw.errors import Unavailable
from skyclaw.events import JobEnqueued
from skyclaw.ids import new_job_id

LOG = re.compile(r"[0-9a-f]{8}")
TAKEN_OVER = ("submitted_by", "priority", "max_attempts", "backoff_ms", "labels")


class Enqueueing:
    """Accepts jobs into the log that the client names, by default into this coordinator's own.

    A client that names the log may repeat the request at any coordinator, with the same idempotency key: there will be one job. Without a
    log that is so at the same coordinator, and at others as soon as their copies know of the first.
    """

    def __init__(self, parts: Parts) -> None:
        self._own, self._cluster, self._clock = parts.log, parts.cluster, parts.clock

    def home(self, req: Request) -> str | None:
        """The log that a request names, or that a coordinator without a log of its own chooses; None for the own one."""
        named: str | None = req.env.get("HTTP_X_SKYCLAW_HOME")
        if named is not None and not LOG.fullmatch(named):
            raise HttpRefused(400, "bad_home", f"{forwarding.HOME} must be the tag of a log, 8 hexadecimal digits")
        return self._any_log() if named is None and self._own is None else named

    def _any_log(self) -> str:
        owners = {log: self._cluster.owner(log) for log in self._cluster.logs()}
        mine = (log for log, owner in owners.items() if owner == self._cluster.node)
        log = next(mine, None) or next((log for log, owner in owners.items() if owner is not None), None)
        if log is None:
            raise Unavailable("no coordinator that accepts jobs is known here yet; try again")
        return log

    def event(self, asked: Mapping[str, Any], home: str | None, keyed: Keyed | None = None) -> JobEnqueued:
        """The acceptance of what the loaded request asks for; a single job carries the request's idempotency key itself."""
        log = home or self._own
        assert log is not None
        payload = asked["payload"]
        values = {name: asked[name] for name in TAKEN_OVER if name in asked}
        if keyed is not None:
            values.update(scope=keyed.scope, key=keyed.key, digest=keyed.digest)
        return JobEnqueued(
            new_job_id(log),
            payload["kind"],
            orjson.dumps(payload).decode(),
            asked["required"],
            not_before=self._not_before(asked.get("not_before", 0)),
            timeout_ms=payload.get("timeoutMs", asked.get("timeout_ms")),  # as the host that runs it reads it
            **values,
        )

    def _not_before(self, moment: int) -> int:
        """A moment that has passed means: at once."""
        return moment if moment > self._clock() else 0
