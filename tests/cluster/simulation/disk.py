"""The disk of one coordinator: what is durable, and what is still on its way there."""

from collections import deque
from collections.abc import Iterable, Sequence

from skyclaw.cluster.configuration import voters_of
from skyclaw.cluster.replica import TURNING_POINTS, Restored, restored
from skyclaw.cluster.replication import Effects, Written
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Epoch, Record

Logs = dict[str, list[Record]]


class Disk:
    """Effects become durable one after the other, each as a whole. As the `Past` of a node it shows also what is on its way."""

    def __init__(self) -> None:
        self.durable: Logs = {}
        self.logs: Logs = {}
        self.pending: deque[Effects] = deque()
        self._promised: dict[str, Epoch] = {}
        self._promises: dict[str, Epoch] = {}

    def put(self, effects: Effects) -> None:
        """The effects are on their way."""
        _write(self.logs, effects.writes.items())
        self._promises.update(effects.promises)
        self.pending.append(effects)

    def sync(self) -> Effects:
        """The oldest effects on their way are durable now."""
        effects = self.pending.popleft()
        _write(self.durable, effects.writes.items())
        self._promised.update(effects.promises)
        return effects

    def crash(self, kept: int) -> None:
        """Only the first few of the effects on their way become durable."""
        for _ in range(kept):
            self.sync()
        self.pending.clear()
        self.logs = {log: list(records) for log, records in self.durable.items()}
        self._promises = dict(self._promised)

    def restored(self, log: str, committed: int, alone: str = "") -> Restored:
        """The copy of a log; where the node `alone` is its only voter, everything is committed."""
        records = self.logs.get(log, [])
        turning_points = [record for record in records if record.type in TURNING_POINTS]
        promised = self.promised(log)
        end, last_hash = len(records), records[-1].hash if records else GENESIS_HASH
        copy = restored(log, promised, end, last_hash, turning_points, min(committed, end))
        if copy.configurations and voters_of(copy.configurations[-1][1]) == {alone}:
            return copy._replace(committed=end)
        return copy

    def promised(self, log: str) -> Epoch:
        """What was promised last, durable or not."""
        return self._promises.get(log, GENESIS_EPOCH)

    @property
    def known(self) -> list[str]:
        """All logs of which something is stored."""
        return sorted({*self.logs, *self._promises})

    def records(self, log: str, after: int, limit: int) -> Sequence[Record]:
        """As `Past.records`."""
        return self.logs.get(log, [])[after : after + limit]

    def hash_at(self, log: str, seq: int) -> bytes:
        """As `Past.hash_at`."""
        return self.logs[log][seq - 1].hash


def _write(logs: Logs, writes: Iterable[tuple[str, Written]]) -> None:
    for log, (start, records) in writes:
        logs.setdefault(log, [])[start - 1 :] = records
