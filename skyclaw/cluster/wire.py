"""Messages as JSON values, and back: `[name, field, field, ...]` in the order in which the message declares its fields.

Whoever sends may be of another version or broken, so everything is checked while it is read, by the declared types; only a value of
exactly the right shape becomes a message. Epochs are `[generation, counter, node]`, hashes hex digits. A record does not repeat its log:
it belongs to the log of what carries it.
"""

import re
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from skyclaw.cluster.messages import Message
from skyclaw.errors import Invalid
from skyclaw.records import Epoch, Record

LARGEST = 2**53  # whole numbers that every JSON reader keeps
MAX_MESSAGES = 10_000  # in one batch
TAG = re.compile(r"[0-9a-f]{8}")
NODE = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]{0,200}")
WORD = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]{1,300}")
HASH = re.compile(r"[0-9a-f]{64}")
HALVES = re.compile("[\ud800-\udfff]")

Reader = Callable[[Any, str], Any]  # of a value, within what belongs to a log


class BadMessage(Invalid):
    """A message between coordinators is not as it should be."""

    code = "bad_message"


def pack(messages: Iterable[Message]) -> list[Any]:
    """The messages as values that JSON knows."""
    return [[type(message).__name__, *map(_pack, message)] for message in messages]


def unpack(value: Any) -> list[Message]:
    """The messages in such a value; raises BadMessage."""
    return [_message(item) for item in _list(value, MAX_MESSAGES)]


def _pack(value: Any) -> Any:
    match value:
        case tuple():
            return [_pack(item) for item in value]
        case Record():
            return [value.seq, value.epoch, value.stream, value.type, value.version, value.at, value.data, value.hash.hex()]
        case bytes():
            return value.hex()
    return value


def _message(value: Any) -> Message:
    items = _list(value)
    read = _MESSAGES.get(items[0]) if items and isinstance(items[0], str) else None
    if read is None:
        raise BadMessage("a message begins with a name that says what it is")
    message: Message = read(items[1:], "")
    return message


def _reader(kind: Any, name: str = "") -> Reader:
    """Who reads a value of this type, as which the field `name` was declared."""
    if name == "log":
        return _tag
    if kind in _PLAIN:
        return _PLAIN[kind]
    inner = get_args(kind)
    if get_origin(kind) is UnionType:
        return _optional(_reader(next(one for one in inner if one is not NoneType)))
    if get_origin(kind) is tuple:
        return _several(_reader(inner[0])) if inner[-1] is Ellipsis else _row([_reader(one) for one in inner], tuple)
    hints = get_type_hints(kind)
    return _row([_reader(hints[field], field) for field in kind._fields], lambda values: kind(*values), kind._fields[0] == "log")


def _optional(read: Reader) -> Reader:
    return lambda value, log: None if value is None else read(value, log)


def _several(read: Reader) -> Reader:
    return lambda value, log: tuple(read(item, log) for item in _list(value))


def _row(readers: list[Reader], make: Callable[[list[Any]], Any], names_log: bool = False) -> Reader:
    """Reads a list of as many items as there are readers; when the first one names a log, the others belong to it."""

    def read(value: Any, log: str) -> Any:
        items = _exactly(_list(value), len(readers))
        inside = items[0] if names_log and isinstance(items[0], str) else log
        return make([read_item(item, inside) for read_item, item in zip(readers, items, strict=True)])

    return read


def _record(value: Any, log: str) -> Record:
    seq, epoch, stream, kind, version, at, data, digest = _exactly(_list(value), 8)
    if not isinstance(data, str) or not (data.isascii() or HALVES.search(data) is None):
        raise BadMessage("the data of a record must be a text")
    return Record(
        log, _whole(seq), _text(WORD, epoch), _text(WORD, stream), _text(WORD, kind), _whole(version), _whole(at), data, _hash(digest)
    )


def _epoch(value: Any, _log: str) -> Epoch:
    generation, counter, node = _exactly(_list(value), 3)
    return Epoch(_whole(generation), _whole(counter), _text(NODE, node))


def _tag(value: Any, _log: str) -> str:
    return _text(TAG, value)


def _hash(value: Any, _log: str = "") -> bytes:
    return bytes.fromhex(_text(HASH, value))


def _whole(value: Any, _log: str = "") -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise BadMessage(f"a number in a message is not a whole one from 0 to {LARGEST}")
    return value


def _flag(value: Any, _log: str) -> bool:
    if value is not True and value is not False:
        raise BadMessage("a flag in a message is neither true nor false")
    return value


def _text(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BadMessage("a text in a message has not the form it must have")
    return value


def _list(value: Any, most: int = LARGEST) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise BadMessage("a part of a message that must be a list is none, or too long")
    return value


def _exactly(items: list[Any], number: int) -> list[Any]:
    if len(items) != number:
        raise BadMessage(f"a part of a message has {len(items)} items instead of {number}")
    return items


_PLAIN: dict[Any, Reader] = {int: _whole, bool: _flag, bytes: _hash, Epoch: _epoch, Record: _record}
_MESSAGES = {kind.__name__: _reader(kind) for kind in get_args(Message)}
