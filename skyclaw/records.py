"""The envelope in which an event stands in a log, and the hash chain that ties a log together.

`hash = sha256(previous hash + canonical bytes)`, so a changed, lost or exchanged event is found when the log is read. Positions (`seq`)
are gapless from 1. An epoch is `generation.counter.node`: ordered, never shared by two nodes, and the owner is named by it.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import orjson

GENESIS_HASH = bytes(32)


class Epoch(NamedTuple):
    """A term of ownership of a log; compares as a tuple."""

    generation: int
    counter: int
    node: str

    def __str__(self) -> str:
        return f"{self.generation}.{self.counter}.{self.node}"

    @classmethod
    def parse(cls, text: str) -> "Epoch":
        """Read what `str()` wrote; raises ValueError."""
        generation, counter, node = text.split(".", 2)
        return cls(int(generation), int(counter), node)


GENESIS_EPOCH = Epoch(0, 0, "")


@dataclass(frozen=True, slots=True)
class Record:
    """One event in its envelope, as it is stored: `data` is the codec's JSON text, `at` is informative (ms, UTC)."""

    log: str
    seq: int
    epoch: str
    stream: str
    type: str
    version: int
    at: int
    data: str
    hash: bytes = b""


def chain_hash(previous: bytes, record: Record) -> bytes:
    """The hash that `record` must carry when it follows an event whose hash is `previous`."""
    head = orjson.dumps([record.log, record.seq, record.epoch, record.stream, record.type, record.version, record.at])
    return hashlib.sha256(b"%b%b\n%b" % (previous, head, record.data.encode())).digest()


def sealed(previous: bytes, record: Record) -> Record:
    """The record with the hash that ties it to its predecessor."""
    r = record
    return Record(r.log, r.seq, r.epoch, r.stream, r.type, r.version, r.at, r.data, chain_hash(previous, r))
