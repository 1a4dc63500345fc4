"""A State as JSON texts and back: what a restart begins from, and a new node is sent.

Each part is a JSON array `[kind, [records...]]` with at most PART records, so that neither side ever holds the whole as one text.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson

from skyclaw.errors import SkyclawError
from skyclaw.events import JobEnqueued, ServiceDeployed
from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.idempotency import Answered
from skyclaw.scheduling.jobs import Job, Lease, Result
from skyclaw.scheduling.state import State
from skyclaw.services.service import Failure, Instance, Remnant, Revision, Service

PART = 1000
VERSION = 2  # raised when a record changes its form; a snapshot of another version is not used, the events are
READABLE = (1, 2)  # without services, and with them


class SnapshotUnreadable(SkyclawError):
    """The snapshot was written by another version."""

    code = "snapshot_unreadable"


class Picture:
    """The records of a State at one moment: cheap to take, because the records themselves never change."""

    def __init__(self, state: State) -> None:
        self.end = state.end
        self._kinds: list[tuple[str, Iterable[object]]] = [
            ("jobs", list(state.jobs.values())),
            ("recent", list(state.recent.values())),
            ("hosts", list(state.hosts.values())),
            ("services", list(state.services.values())),
        ]
        self._keys = list(state.keys)

    def parts(self) -> Iterator[str]:
        """The texts, in the order in which `restore` wants them."""
        yield orjson.dumps(["version", [VERSION]]).decode()
        keys: Iterable[object] = ((*name, entry) for name, entry in self._keys)
        for kind, records in (*self._kinds, ("keys", keys)):
            rest = iter(records)
            while some := list(islice(rest, PART)):
                yield orjson.dumps([kind, some], default=_plain).decode()


def restore(parts: Iterable[str], end: int) -> State:
    """The State whose picture the parts are; `end` is the position it was taken at. Raises SnapshotUnreadable."""
    state, parts = State(), iter(parts)
    if orjson.loads(next(parts, "null")) not in [["version", [version]] for version in READABLE]:
        raise SnapshotUnreadable
    for part in parts:
        kind, records = orjson.loads(part)
        for record in records:
            _RESTORE[kind](state, record)
    state.end = end
    return state


def _plain(value: object) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)


def _job(values: dict[str, Any]) -> Job:
    asked = values["asked"]
    asked["kind"], asked["scope"], asked["required"] = _shared(asked["kind"]), _shared(asked["scope"]), _shared(tuple(asked["required"]))
    asked["labels"] = _pairs(asked["labels"])
    values["asked"] = JobEnqueued(**asked)
    values["lease"] = Lease(**values["lease"]) if values["lease"] else None
    values["result"] = Result(**values["result"]) if values["result"] else None
    return Job(**values)


def _host(values: dict[str, Any]) -> Host:
    values["capabilities"] = frozenset(values["capabilities"])
    values["labels"] = _pairs(values["labels"])
    return Host(**values)


def _service(values: dict[str, Any]) -> Service:
    values["revisions"] = tuple(map(_revision, values["revisions"]))
    values["instances"] = tuple(Instance(**instance) for instance in values["instances"])
    values["failures"] = tuple(Failure(**failure) for failure in values["failures"])
    values["remnants"] = tuple(Remnant(**remnant) for remnant in values.get("remnants", ()))
    return Service(**values)


def _revision(values: dict[str, Any]) -> Revision:
    asked = values["asked"]
    asked["args"], asked["required"], asked["env"] = tuple(asked["args"]), tuple(asked["required"]), _pairs(asked["env"])
    values["asked"] = ServiceDeployed(**asked)
    return Revision(**values)


def _pairs(lists: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in lists) if lists else ()


def _put_host(state: State, values: dict[str, Any]) -> None:
    host = _host(values)
    state.hosts[host.id] = host


def _put_service(state: State, values: dict[str, Any]) -> None:
    service = _service(values)
    state.put_service(service.id, service)


def _put_key(state: State, record: list[Any]) -> None:
    scope, key, entry = record
    subjects = tuple(entry.pop("subjects"))
    job = state.jobs.get(subjects[0]) if len(subjects) == 1 else None
    if job is not None and (job.asked.key, job.asked.digest) == (key, entry["digest"]):
        key, entry["digest"], subjects = job.asked.key, job.asked.digest, (job.id,)  # equal texts, kept once
    state.keys.put(_shared(scope), key, Answered(subjects=subjects, **entry))


@lru_cache(maxsize=1024)
def _shared(value: Any) -> Any:
    """The same value for all that are equal, where many jobs have it in common."""
    return value


_RESTORE: dict[str, Callable[[State, Any], object]] = {
    "jobs": lambda state, values: state.enter(_job(values)),
    "recent": lambda state, values: state.enter(_job(values)),
    "hosts": _put_host,
    "services": _put_service,
    "keys": _put_key,
}
