"""What a coordinator tells its peers about itself, every few seconds: soft state, of which the newest counts and none is kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from skyclaw.cluster.wire import LARGEST, TAG, BadMessage

MAX_LOGS, MAX_HOSTS, MAX_TOLD = 4_096, 4_096, 64
NAME = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]{1,200}")
URL = re.compile(r"[\x21-\x7e]{1,2048}")


class Told(NamedTuple):
    """Where the sender found another coordinator, and the number under which that one had said so. Hearsay: a hint, nothing more."""

    node: str
    url: str
    number: int


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A coordinator in its own words. `number` grows with each status that it gives; `url` is None when nobody could reach it."""

    node: str
    label: str
    log: str | None  # tag of its own log; a witness has none
    url: str | None
    number: int
    ready: bool
    witness: bool
    positions: Mapping[str, int]  # tag of a log: how far the copy is committed
    hosts: Mapping[str, int]  # id of a host that was heard of here: ms since then
    peers: tuple[Told, ...] = ()
    leaving: bool = False  # it still does its part, and wants others to take it over


def pack(status: PeerStatus) -> dict[str, Any]:
    """The status as a JSON object."""
    return {
        "node": status.node,
        "label": status.label,
        "log": status.log,
        "url": status.url,
        "number": status.number,
        "ready": status.ready,
        "witness": status.witness,
        "positions": dict(status.positions),
        "hosts": dict(status.hosts),
        "peers": [list(told) for told in status.peers],
        "leaving": status.leaving,
    }


def unpack(value: Any) -> PeerStatus:
    """The status in such an object; fields that this version does not know are left out. Raises BadMessage."""
    if not isinstance(value, dict):
        raise BadMessage("a status must be an object")
    url, told = value.get("url"), value.get("peers", [])
    if not isinstance(told, list) or len(told) > MAX_TOLD:
        raise BadMessage(f"the peers of a status must be a list of at most {MAX_TOLD}")
    return PeerStatus(
        node=_text(NAME, value, "node"),
        label=_text(NAME, value, "label"),
        log=None if value.get("log") is None else _text(TAG, value, "log"),
        url=None if url is None else _text(URL, value, "url"),
        number=_whole(value.get("number"), "number"),
        ready=_flag(value, "ready"),
        witness=_flag(value, "witness"),
        positions=_numbers(value, "positions", TAG, MAX_LOGS),
        hosts=_numbers(value, "hosts", NAME, MAX_HOSTS),
        peers=tuple(_told(one) for one in told),
        leaving=_flag(value, "leaving"),
    )


def _told(value: Any) -> Told:
    if not isinstance(value, list) or len(value) != 3:
        raise BadMessage("a peer of a status must be its node, address and number")
    fields = dict(zip(("node", "url", "number"), value, strict=True))
    return Told(_text(NAME, fields, "node"), _text(URL, fields, "url"), _whole(fields["number"], "number"))


def _text(pattern: re.Pattern[str], fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BadMessage(f"{name} has not the form it must have")
    return value


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise BadMessage(f"{name} must be a whole number from 0 to {LARGEST}")
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not True and value is not False:
        raise BadMessage(f"{name} must be true or false")
    return value


def _numbers(fields: Mapping[str, Any], name: str, key: re.Pattern[str], most: int) -> dict[str, int]:
    value = fields.get(name)
    if not isinstance(value, dict) or len(value) > most or not all(key.fullmatch(one) for one in value):
        raise BadMessage(f"{name} must be an object of at most {most} numbers")
    return {one: _whole(number, name) for one, number in value.items()}
