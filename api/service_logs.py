"""/v1/services/{service}/log: what the instances of a service have printed lately, at the coordinator that decides for it."""

import re
import threading
from collections.abc import Callable, Iterable, Mapping

from falcon import Request, Response
from marshmallow import ValidationError

from api import queries
from api.parts import Cluster, Parts
from api.views import View, dump
from skyclaw.answers import ServiceSeen
from skyclaw.commands import FindService
from skyclaw.errors import NotOwner
from skyclaw.scheduling.books import TAG
from skyclaw.services.outputs import Outputs, Printed, Source
from skyclaw.services.service import Service

MIN_LIMIT, DEFAULT_LIMIT, MAX_LIMIT = 1_024, 64 * 1024, 256 * 1024  # bytes of each instance
MAX_SHOWN = 128  # instances in one answer
ENDED = "ended"
CURSOR = re.compile(r"at((?:-[0-9a-f]{32}\.[0-9a-f]{1,14})*)")
DASHES = (8, 12, 16, 20)  # where they stand in the hexadecimal digits of an id


class SharedOutputs:
    """The latest outputs, for several threads at once. `clock` says ms."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock, self._outputs, self._lock = clock, Outputs(), threading.Lock()

    def take(self, sources: Iterable[Source], parts: Mapping[str, tuple[int, str]]) -> dict[str, int]:
        """Keep what the instances on a host, which are these, have printed: by their ids, from which offset on what. Says what is next."""
        known = list(sources)
        with self._lock:
            self._outputs.know(known, self._clock())
            for instance_id, (at, text) in parts.items():
                self._outputs.put(instance_id, at, text)
            return {source.instance_id: self._outputs.wanted(source.instance_id) for source in known}

    def of(self, service_id: str) -> list[Source]:
        """The instances of a service whose output is known, whoever printed last being the last."""
        with self._lock:
            return self._outputs.of(service_id)

    def read(self, instance_id: str, after: int | None, limit: int) -> Printed | None:
        """As `Outputs.read`."""
        with self._lock:
            return self._outputs.read(instance_id, after, limit)


class ServiceLog:
    """/v1/services/{service}/log."""

    def __init__(self, parts: Parts, outputs: SharedOutputs) -> None:
        self._desk, self._cluster, self._outputs = parts.desk, parts.cluster, outputs

    def on_get(self, req: Request, resp: Response, service: str) -> None:
        """The end of what each instance has printed, or with `after` what it has printed since; who printed last comes last."""
        wanted, after = queries.text(req, "instance"), _places(queries.text(req, "after"))
        limit = queries.whole(req, "limit", MIN_LIMIT, MAX_LIMIT, DEFAULT_LIMIT)
        seen: ServiceSeen = self._desk.ask(FindService(service))
        _require_owner(self._cluster, seen.service.id[TAG])
        sources = self._outputs.of(seen.service.id)[-MAX_SHOWN:]
        views, places = [], dict(after or {})
        for source in sources:
            if wanted not in (None, source.instance_id):
                continue
            place = after.get(source.instance_id, 0) if after is not None else None
            printed = self._outputs.read(source.instance_id, place, limit)
            if printed is not None:
                views.append(_view(seen.service, printed))
                places[source.instance_id] = max(printed.end, place or 0)
        known = {source.instance_id for source in sources}
        resp.data = dump({"instances": views, "next": _cursor({one: at for one, at in places.items() if one in known})})


def _view(service: Service, printed: Printed) -> View:
    source = printed.source
    instance = service.instance(source.instance_id)
    return {
        "instanceId": source.instance_id,
        "hostId": source.host_id,
        "revision": source.revision,
        "status": instance.status if instance is not None else ENDED,
        "text": printed.text,
        "from": printed.start,
        "end": printed.end,
    }


def _require_owner(cluster: Cluster, log: str) -> None:
    """Raises NotOwner for a log that others decide for: they have the outputs."""
    owner = cluster.owner(log)
    if owner != cluster.node and (owner is not None or log in cluster.logs()):
        raise NotOwner(log)


def _cursor(places: Mapping[str, int]) -> str:
    return "-".join(["at", *(f"{instance_id.removeprefix('ins_').replace('-', '')}.{at:x}" for instance_id, at in sorted(places.items()))])


def _places(cursor: str | None) -> dict[str, int] | None:
    """The offsets by instance that a cursor stands for; raises ValidationError."""
    if cursor is None:
        return None
    match = CURSOR.fullmatch(cursor)
    if match is None:
        raise ValidationError({"after": ["must be the `next` of an answer to the same query"]})
    places = (place.split(".") for place in match[1].split("-")[1:])
    return {_instance_id(digits): int(at, 16) for digits, at in places}


def _instance_id(digits: str) -> str:
    parts = (digits[start:end] for start, end in zip((0, *DASHES), (*DASHES, None), strict=True))
    return f"ins_{'-'.join(parts)}"
