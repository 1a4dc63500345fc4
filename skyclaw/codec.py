"""Event <-> JSON text, and how events of older versions are read.

Every event class is known by its name. An upcaster turns the fields of one version into those of the next, so an old log is read for ever
and never rewritten. What this version does not know (a new type, a newer version) stops the reader: an event is never dropped.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints

import orjson

from skyclaw.errors import SkyclawError
from skyclaw.events import ALL, Event, JobEnqueued

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class UnsupportedEvent(SkyclawError):
    """The log holds an event that this version of Skyclaw does not know."""

    code = "unsupported_event"


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in value)


def _asked(values: dict[str, Any]) -> JobEnqueued:
    return JobEnqueued(**{**values, "required": tuple(values["required"]), "labels": _pairs(values["labels"])})


def _configurations(value: Any) -> tuple[tuple[tuple[str, ...], int], ...]:
    return tuple((tuple(voters), copies) for voters, copies in value)


_READERS: dict[Any, Callable[[Any], Any]] = {
    tuple[str, ...]: tuple,
    tuple[tuple[str, str], ...]: _pairs,
    tuple[tuple[tuple[str, ...], int], ...]: _configurations,
    JobEnqueued: _asked,
}


def _readers(event: type[Event]) -> dict[str, Callable[[Any], Any]]:
    """The fields that JSON does not give back as they were."""
    return {name: _READERS[kind] for name, kind in get_type_hints(event).items() if kind in _READERS}


class Codec:
    """Reads and writes the given event classes; `upcasters` maps (type name, version) to the step to the next version."""

    def __init__(self, known: Iterable[type[Event]] = ALL, upcasters: Mapping[tuple[str, int], Upcaster] | None = None) -> None:
        self._known = {cls.__name__: (cls, _readers(cls)) for cls in known}
        self._upcasters = dict(upcasters or {})

    def encode(self, event: Event) -> tuple[str, int, str]:
        """Type name, version and JSON text of an event."""
        return type(event).__name__, event.version, orjson.dumps(event).decode()

    def decode(self, name: str, version: int, data: str) -> Event:
        """The event, brought to its present version; raises UnsupportedEvent."""
        if name not in self._known or version > self._known[name][0].version:
            raise UnsupportedEvent(f"event {name} of version {version} was written by a newer Skyclaw")
        cls, readers = self._known[name]
        values = orjson.loads(data)
        for step in range(version, cls.version):
            values = self._upcasters[name, step](values)
        for field, read in readers.items():
            if field in values:
                values[field] = read(values[field])
        return cls(**values)


CODEC = Codec()
