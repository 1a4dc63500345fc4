"""Drives the protocol: what the queue decides and what other coordinators say is made durable in shared transactions, then it takes effect.

Messages that have come in meanwhile share one transaction. Its order is the protocol's first rule: promises and records are on the disk
before an answer or a message leaves. When a transaction fails, the node goes back to what is durable, and everything that was decided on
top of it (it bears the same `line`) is refused until the queue has gone back too.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from actors.asking import Post, Reply
from actors.base import Actor
from actors.log_messages import (
    Answers,
    Append,
    Checkpoint,
    Committed,
    Followed,
    Interposed,
    OwnershipGained,
    OwnershipLost,
    Read,
    Rejected,
    Rewritten,
)
from actors.log_views import LogViews, look_at
from actors.replicator_messages import (
    Arrived,
    Force,
    PullArrived,
    PullWanted,
    Reconfigure,
    StopParking,
    Transfer,
    Undelivered,
)
from actors.snapshot_saver import SnapshotSaver
from actors.stored_copies import PAGE, PAGE_CHARACTERS, durable_copy, evicted, report_orphans, stored_records
from actors.ticker import Tick
from actors.trusting import Configured, anybody, trusted
from actors.waiters import Waiters
from skyclaw.cluster.configuration import Configuration, copies_of, founding
from skyclaw.cluster.messages import Message, Pulled
from skyclaw.cluster.replica import CONFIGURATION, Broken, Restored
from skyclaw.cluster.replication import Effects, Node
from skyclaw.codec import CODEC, Codec
from skyclaw.errors import NotOwner, StorageFailed, TooFewCopies, Unavailable, Undecided
from skyclaw.events import PeerEvicted, stream_of
from skyclaw.outside.clock import Clock
from skyclaw.records import Record, sealed
from skyclaw.store.event_log import EventLog, Head, Write

logger = logging.getLogger(__name__)

BATCH = 1000  # events of the queue in one transaction
TELL_EVERY = 256  # events; the queue need not hear of each commit
NOTE_EVERY_MS = 1000

Send = Callable[[str, Sequence[Message]], None]


class Replicator(Actor):
    """Owns the store and this node's seats in all logs."""

    def __init__(
        self,
        store: EventLog,
        node: Node,
        queue: Post,
        clock: Clock,
        send: Send,
        views: LogViews,
        on_evicted: Callable[[frozenset[str]], None] = lambda _nodes: None,
        is_configured: Configured = anybody,
        on_death: Callable[[str], None] | None = None,
        codec: Codec = CODEC,
        evictions: Iterable[Record] = (),
    ) -> None:
        """`evictions` are those in the logs that are not known to be committed."""
        super().__init__(on_death)
        self._store, self._node, self._queue, self._clock, self._send, self._codec = store, node, queue, clock, send, codec
        self._views, self._on_evicted, self._is_configured = views, on_evicted, is_configured
        self._saver = SnapshotSaver(store)
        self._appends: list[Append] = []  # of one log, line and epoch, not yet proposed
        self._events = 0
        self._waiters = Waiters()
        self._lines: dict[str, int] = {}  # the last one seen, by log
        self._refused: dict[str, int] = {}  # the last one that was refused, by log
        self._told = {log: node.replica(log).commit for log in node.logs}  # up to where the queue knows each log
        self._gained_at: dict[str, int] = {}
        self._hearers: dict[str, tuple[Reply, int]] = {}  # who waits for what is to be said to a node, and until when
        self._said: dict[str, list[Message]] = {}
        self._parked: list[PullArrived] = []
        self._may_park = True
        self._rewritten = Counter[str]()  # how often the queue was told so, by log
        self._noted, self._note_at = {log: store.committed(log) for log in node.logs}, 0
        self._evictions = list(evictions)  # not known to be committed yet
        self._look()

    def handle(self, message: object) -> None:
        """Gather what has come in; make it durable when there is no more, or enough."""
        if isinstance(message, Append):
            self._gather(message)
            if self._events >= BATCH or self.actor_inbox.empty():
                self._settle()
            return
        self._propose()
        match message:
            case Answers():
                self._wait_for_all(message)
            case Arrived():
                self._hear(message)
            case PullArrived():
                self._parked.append(message)
            case StopParking():
                self._may_park = False
            case PullWanted(reply):
                reply.set(self._node.pull(self._clock()))
            case Checkpoint():
                self._settle()
                self._note(message)
            case Tick() if not self._store.read_only:
                self._node.tick(self._clock())
            case Undelivered(node):
                self._node.undelivered(node)
            case Reconfigure(log, wanted):
                self._reconfigure(log, wanted)
            case Transfer(log, to):
                logger.info("log_handed_over log=%s to=%s", log, to)
                self._node.transfer(log, to, self._clock())
            case Force():
                self._force(message)
        if self.actor_inbox.empty() or isinstance(message, PullArrived):
            self._settle()
        if isinstance(message, Tick):
            self._note_committed()
            self._look()

    def on_stop(self) -> None:
        """Nothing that was gathered is left unanswered."""
        self._settle()
        self._waiters.fail_all(Undecided())
        self._saver.stop()

    def on_handler_failed(self, _message: object, error: Exception) -> None:
        """A failure nobody foresaw: the waiters learn that nothing is known, and the actor starts again from the log."""
        failure = StorageFailed(f"the log failed: {type(error).__name__}", {"written": "unknown"})
        self._waiters.fail_all(failure)
        for append in self._appends:
            _fail(append, failure)
        raise error

    # What comes from the queue

    def _gather(self, append: Append) -> None:
        if self._appends and _place(self._appends[0]) != _place(append):
            self._propose()
        self._appends.append(append)
        self._events += len(append.events)

    def _propose(self) -> None:
        """Hand the gathered events to the node, which may not be allowed to take them."""
        gathered, self._appends, self._events = self._appends, [], 0
        if not gathered:
            return
        log, line, epoch = _place(gathered[0])
        if line <= self._refused.get(log, -1):
            for append in gathered:
                _fail(append, Unavailable())
            return
        self._lines[log] = line
        if gathered[0].after != self._node.replica(log).end and self._node.epoch(log) == epoch:
            self._refused[log] = line  # the node put something in between, of which the queue will hear
            for append in gathered:
                _fail(append, Unavailable())
            return
        try:
            if self._node.epoch(log) != epoch:
                raise NotOwner(log)
            if any(append.events for append in gathered):
                self._node.propose(log, epoch, self._seal(gathered), self._clock())
        except Unavailable as failure:
            self._refuse(log, gathered, failure)
        else:
            for append in gathered:
                self._waiters.wait(append.answers, {log: (append.after + len(append.events), len(append.events))}, self._committed_of)

    def _seal(self, appends: Sequence[Append]) -> list[Record]:
        records: list[Record] = []
        replica = self._node.replica(appends[0].log)
        seq, last = replica.end, replica.hash
        for a in appends:
            if a.after != seq:
                raise ValueError(f"an append after {a.after} came behind one that ends at {seq}")
            for event in a.events:
                seq += 1
                name, version, data = self._codec.encode(event)
                record = sealed(last, Record(a.log, seq, a.epoch, stream_of(event), name, version, a.at, data))
                records.append(record)
                last = record.hash
        return records

    def _refuse(self, log: str, appends: Sequence[Append], failure: Unavailable) -> None:
        """The writes learn the cause; an answer that merely built on them is to be asked for again."""
        if isinstance(failure, TooFewCopies):
            failure = self._too_few(log)
        if not isinstance(failure, NotOwner):
            self._make_durable()  # the queue can go back only once: to what is stored, not to what may still fail
        end = self._node.replica(log).end
        for append in appends:
            if append.after == end and not append.events and not isinstance(failure, NotOwner):
                self._waiters.wait(append.answers, {log: (end, 0)}, self._committed_of)
            else:
                _fail(append, failure if append.events else Unavailable())
        if not isinstance(failure, NotOwner):  # otherwise the queue hears of the loss itself
            self._reject(log, end)

    def _reject(self, log: str, end: int) -> None:
        self._refused[log] = self._lines.get(log, -1)
        self._tell_queue(Rejected(log, self._refused[log], end))

    def _too_few(self, log: str) -> TooFewCopies:
        there = copies_of(self._node.replica(log).configuration)
        return TooFewCopies(
            f"SKYCLAW_MIN_REPLICATIONS={self._node.min_copies} asks for {self._node.min_copies} coordinators that hold each write, "
            f"{there} {'is' if there == 1 else 'are'} there; add a coordinator, or a witness (SKYCLAW_WITNESS=1), or lower the number",
            {"copies": there, "wanted": self._node.min_copies},
        )

    def _wait_for_all(self, message: Answers) -> None:
        for log, read in message.read.items():
            if read.line <= self._refused.get(log, -1) or not self._holds(log, read):
                for reply, _ in message.answers:
                    reply.set(Unavailable())
                return
        self._waiters.wait(message.answers, {log: (read.position, 0) for log, read in message.read.items()}, self._committed_of)

    def _holds(self, log: str, read: Read) -> bool:
        return self._node.owns(log) and self._node.epoch(log) == read.epoch

    def _committed_of(self, log: str) -> int:
        return self._node.replica(log).commit

    # What comes from elsewhere

    def _hear(self, arrived: Arrived) -> None:
        if arrived.reply is not None:
            former, _ = self._hearers.get(arrived.src, (None, 0))
            if former is not None:
                former.set(())  # the node has asked once more: it hears everything there
            self._hearers[arrived.src] = arrived.reply, arrived.until
            self._said.setdefault(arrived.src, [])
        now = self._clock()
        for message in trusted(arrived.messages, arrived.src, self._node, self._is_configured):
            try:
                self._node.receive(arrived.src, message, now)
            except Broken as damage:
                logger.critical("records_refused from=%s cause=%s", arrived.src, damage)

    def _reconfigure(self, log: str, wanted: Configuration) -> None:
        if self._node.reconfigure(log, wanted, self._clock()):
            logger.info("voters_change log=%s voters=%s copies=%d", log, ",".join(sorted(wanted.voters)), wanted.copies)

    def _force(self, message: Force) -> None:
        logger.critical("log_forced log=%s by=%s voters=%s", message.log, message.operator, ",".join(sorted(message.wanted.voters)))
        self._node.force(message.log, message.wanted, message.operator, self._clock())
        self._settle()
        message.reply.set(self._node.epoch(message.log) or self._views.failure or Unavailable())

    # Making it durable, and what follows

    def _settle(self) -> None:
        """Make durable what has gathered, and answer whoever waits for messages."""
        self._propose()
        self._make_durable()
        self._answer_hearers()
        self._answer_pulls()

    def _make_durable(self) -> None:
        """Store what the node wants stored, and let it take effect, until nothing follows any more."""
        while True:
            effects = self._node.effects()
            if not self._store_all(effects):
                break
            if not self._take_effect(effects):
                break

    def _store_all(self, effects: Effects) -> bool:
        """One durable transaction; False when it failed and the node went back."""
        if not effects.writes and not effects.promises:
            return True
        orphans = [(one, stored_records(self._store, one.log, one.first - 1, one.last)) for one in effects.orphans]
        writes = [Write(log, written.start, written.records) for log, written in effects.writes.items()]
        try:
            self._store.write(writes, {log: str(epoch) for log, epoch in effects.promises.items()})
        except Unavailable as failure:
            self._views.failure = failure
            self._go_back(effects, failure)
            return False
        self._views.failure = None
        for one, records in orphans:
            report_orphans(one, records)
        self._evictions += [record for write in writes for record in write.records if record.type == PeerEvicted.__name__]
        return True

    def _go_back(self, effects: Effects, failure: Unavailable) -> None:
        logger.error("commit_failed logs=%s cause=%s", ",".join({*effects.writes, *effects.promises}), failure)
        touched = {*effects.writes, *effects.promises}
        self._node.undo(effects, [self._durable(log) for log in touched])
        for log, committed in effects.lost.items():
            self._lose(log, min(committed, self._committed_of(log)))
        for log in touched:
            end = self._node.replica(log).end
            if self._node.owns(log):
                self._waiters.fail(log, end, failure, Unavailable())
                self._reject(log, end)

    def _durable(self, log: str) -> Restored:
        return durable_copy(self._store, log, self._node.replica(log).commit)

    def _take_effect(self, effects: Effects) -> bool:
        """Everything of these effects is durable now; returns whether it led to more."""
        for log, committed in effects.lost.items():
            self._lose(log, committed)
        for gained in effects.gained:
            logger.info("ownership_taken log=%s epoch=%s end=%d", gained.log, gained.epoch, gained.end)
            self._gained_at[gained.log] = self._clock()
            self._tell_queue(OwnershipGained(gained.log, str(gained.epoch), gained.committed, gained.end))
            self._told[gained.log] = gained.end
        self._tell_interposed(effects)
        for orphans in effects.orphans:
            self._told[orphans.log] = self._committed_of(orphans.log)
            self._saver.forget(orphans.log)
            self._rewritten[orphans.log] += 1
            self._tell_queue(Rewritten(orphans.log, self._told[orphans.log]))
        for log in effects.committed:
            self._waiters.reached(log, self._committed_of(log))
            self._saver.committed(log, self._committed_of(log))
            self._tell_committed(log)
        if self._evictions:
            self._evict()
        if effects.gained or effects.lost:
            self._look()
        return self._pass_on(effects.sends)

    def _tell_interposed(self, effects: Effects) -> None:
        """The node changes the voters of own logs by itself; the queue has to count these events."""
        gained = {one.log for one in effects.gained}
        for log, written in effects.writes.items():
            if self._node.owns(log) and log not in gained:
                changes = [record for record in written.records if record.type == CONFIGURATION]
                if changes:
                    self._refused[log] = self._lines.get(log, -1)
                    self._tell_queue(Interposed(log, changes))

    def _lose(self, log: str, committed: int) -> None:
        """Nothing beyond `committed` counts any more; the new owner may have committed other events at the same positions by now."""
        logger.info("ownership_lost log=%s committed=%d", log, committed)
        self._waiters.reached(log, committed)
        self._waiters.fail(log, committed, Undecided(), Unavailable())
        self._saver.forget(log)
        self._told[log] = committed
        self._tell_queue(OwnershipLost(log, committed))

    def _tell_queue(self, news: object) -> None:
        """A queue that is dead, or stopped already, will begin anew from the log."""
        with suppress(Unavailable):
            self._queue.tell(news)

    def _evict(self) -> None:
        """Whoever was turned out, for certain, is refused from now on."""
        decided = [record for record in self._evictions if record.seq <= self._committed_of(record.log)]
        self._evictions = [record for record in self._evictions if record not in decided]
        certain = [record for record in decided if self._node.replica(record.log).hash_at(record.seq) == record.hash]  # not replaced since
        if certain:
            self._on_evicted(evicted(certain, self._codec))

    def _tell_committed(self, log: str) -> None:
        """The queue made the events of an own log itself; those of the others it hears of here."""
        committed, told = self._committed_of(log), self._told.get(log, 0)
        if self._node.owns(log):
            if committed - told >= TELL_EVERY:
                self._told[log] = committed
                self._tell_queue(Committed(log, committed))
            return
        while told < committed:
            records = self._node.replica(log).records(told, min(PAGE, committed - told), PAGE_CHARACTERS)
            self._tell_queue(Followed(log, records))
            told = records[-1].seq
        self._told[log] = max(told, committed)

    def _pass_on(self, sends: Iterable[tuple[str, Message]]) -> bool:
        """Send the messages; returns whether one of them went to this node itself."""
        to_itself = False
        outgoing: dict[str, list[Message]] = {}
        for to, message in sends:
            if to == self._node.name:
                self._node.receive(to, message, self._clock())
                to_itself = True
            elif to in self._hearers:
                self._said[to].append(message)
            else:
                outgoing.setdefault(to, []).append(message)
        for to, messages in outgoing.items():
            self._send(to, messages)
        return to_itself

    def _answer_hearers(self) -> None:
        """What comes too late for an answer, because the disk was slow, travels by itself."""
        for src, (reply, until) in self._hearers.items():
            said = tuple(self._said.pop(src))
            if self._clock() < until:
                reply.set(said)
            elif said:
                self._send(src, said)
        self._hearers.clear()

    def _answer_pulls(self) -> None:
        if not self._parked:
            return
        now, waiting = self._clock(), []
        for parked in self._parked:
            answer: Pulled = self._node.answer(parked.pull)
            if answer.news or now >= parked.until or not self._may_park:
                parked.reply.set(answer)
            else:
                waiting.append(parked)
        self._parked = waiting

    def _note_committed(self) -> None:
        """Keep how far the logs are committed, now and then: a start without the others can show as much."""
        now = self._clock()
        fresh = {log: end for log in self._node.logs if (end := self._committed_of(log)) > self._noted.get(log, 0)}
        fresh = {log: end for log, end in fresh.items() if self._node.replica(log).configuration != founding(self._node.name)}
        if not fresh or self._store.read_only or now < self._note_at:
            return
        self._note_at = now + NOTE_EVERY_MS
        try:
            self._store.note_committed(fresh)
        except Unavailable as failure:
            logger.warning("progress_not_noted cause=%s", failure)
        else:
            self._noted |= fresh

    # Snapshots

    def _note(self, checkpoint: Checkpoint) -> None:
        """Keep the picture until what it shows is committed."""
        log, end, replica = checkpoint.log, checkpoint.picture.end, self._node.replica(checkpoint.log)
        stands = checkpoint.epoch == self._node.epoch(log) and checkpoint.line > self._refused.get(log, -1)
        if stands and checkpoint.rewritten == self._rewritten[log] and end <= replica.end:
            self._saver.note(log, checkpoint.picture, Head(end, str(replica.epoch_at(end)), replica.hash_at(end)))
            self._saver.committed(log, self._committed_of(log))

    # What others may see

    def _look(self) -> None:
        """Let other threads see how the logs are."""
        now = self._clock()
        self._views.all = tuple(look_at(self._node, log, self._gained_at.get(log, now), now) for log in self._node.logs)


def _place(append: Append) -> tuple[str, int, str]:
    """Where an append belongs: its log, line and epoch."""
    return append.log, append.line, append.epoch


def _fail(append: Append, failure: Exception) -> None:
    for reply, _ in append.answers:
        reply.set(failure)
