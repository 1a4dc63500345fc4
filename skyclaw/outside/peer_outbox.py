"""What waits to be sent to one peer, bounded: messages may be lost, so the oldest go when there is no room."""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import count

from skyclaw.cluster.messages import Append, Message, Pulled
from skyclaw.records import Epoch, Record

MAX_MESSAGES, MAX_BYTES = 8_192, 32 * 1024 * 1024
BATCH_RECORDS, BATCH_BYTES = 1_000, 4 * 1024 * 1024
AROUND = 200  # bytes of a message or a record besides its data, about


class Outbox:
    """Messages in the order in which they came. A heartbeat takes the place of an earlier one for the same log and epoch."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[object, tuple[Message, int]] = OrderedDict()
        self._numbers = count()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, messages: Iterable[Message]) -> None:
        """Add messages; the oldest are dropped when there are too many."""
        for message in messages:
            is_heartbeat = isinstance(message, Append) and not message.records
            key: object = (message.log, message.epoch) if is_heartbeat and isinstance(message, Append) else next(self._numbers)
            self._remove(key)
            size = _size(message)
            self._waiting[key] = (message, size)
            self._bytes += size
        while len(self._waiting) > MAX_MESSAGES or (self._bytes > MAX_BYTES and len(self._waiting) > 1):
            self._remove(next(iter(self._waiting)))

    def take(self) -> list[Message]:
        """The next batch: what came first, at most 1000 records and 4 MiB of them, but always something of what there is."""
        batch: list[Message] = []
        records = size = 0
        while self._waiting:
            key = next(iter(self._waiting))
            message, own = self._waiting[key]
            carried = _carried(message)
            if records + carried > BATCH_RECORDS or size + own > BATCH_BYTES:
                if not batch:
                    self._remove(key)
                    first, rest = _split(message)
                    batch.append(first)
                    if rest is not None:
                        self._put_first(rest)
                break
            self._remove(key)
            batch.append(message)
            records, size = records + carried, size + own
        return batch

    def clear(self) -> None:
        """Drop everything."""
        self._waiting.clear()
        self._bytes = 0

    def _put_first(self, message: Message) -> None:
        key, size = next(self._numbers), _size(message)
        self._waiting[key] = (message, size)
        self._waiting.move_to_end(key, last=False)
        self._bytes += size

    def _remove(self, key: object) -> None:
        if (found := self._waiting.pop(key, None)) is not None:
            self._bytes -= found[1]


def _carried(message: Message) -> int:
    match message:
        case Append():
            return len(message.records)
        case Pulled():
            return sum(len(news.records) for news in message.news)
    return 0


def _size(message: Message) -> int:
    match message:
        case Append():
            return AROUND + sum(map(_weight, message.records))
        case Pulled():
            return AROUND + sum(AROUND + sum(map(_weight, news.records)) for news in message.news)
    return AROUND


def _weight(record: Record) -> int:
    return AROUND + (len(record.data) if record.data.isascii() else len(record.data.encode()))


def _split(message: Message) -> tuple[Message, Message | None]:
    """The part of an Append that fits into a batch, at least one record of it, and the Append of the others. Others stay whole."""
    if not isinstance(message, Append) or len(message.records) < 2:
        return message, None
    at, size = 0, AROUND
    for record in message.records[:BATCH_RECORDS]:
        size += _weight(record)
        if at and size > BATCH_BYTES:
            break
        at += 1
    first, rest = message.records[:at], message.records[at:]
    if not rest:
        return message, None
    last = first[-1]
    return message._replace(records=first), message._replace(prev=last.seq, prev_epoch=Epoch.parse(last.epoch), records=rest)
