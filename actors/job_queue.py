"""Decides for the logs that are owned here, and follows the others. It waits for nobody.

Each command leads to turns of the pure Queue, whose events and answers go to the Replicator; an answer that was computed from committed
copies alone is given at once.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from actors.asking import Ask, GiveUp, Post, Reply
from actors.base import Actor
from actors.following import Follower
from actors.log_lines import Line
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
from skyclaw.errors import SkyclawError, Unavailable
from skyclaw.outside.clock import Clock
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.snapshots import Picture
from skyclaw.scheduling.turns import Turns
from skyclaw.store.event_log import EventLog

logger = logging.getLogger(__name__)

SNAPSHOT_EVERY = 10_000  # events, or the number of live records when that is more


class JobQueue(Actor):
    """The one writer of jobs, hosts, services and leases.

    The queue knows each log up to a committed position; `snapshots` are those of snapshots.
    """

    def __init__(
        self,
        queue: Queue,
        replicator: Post,
        clock: Clock,
        store: EventLog,
        snapshots: Mapping[str, int],
        on_death: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(on_death)
        self._queue, self._replicator, self._clock = queue, replicator, clock
        self._follower = Follower(queue, store, clock)
        self._lines = {log: Line(position) for log, position in snapshots.items()}

    def handle(self, message: object) -> None:
        """One message, at most one turn in each log."""
        match message:
            case Ask():
                self._ask(message)
            case GiveUp(reply):
                self._send(self._queue.give_up(reply, self._clock()))
            case Committed(log, end):
                self._committed(log, end)
            case Rejected(log, line, end):
                if line >= self._line(log).number:
                    self._go_back(log, end)
            case Interposed(log, records):
                self._line(log).go_back(records[0].seq - 1)
                self._adopt(log, records[-1].seq)
            case Followed(log, records):
                self._learned(log, self._follower.follow(log, records))
            case OwnershipGained(log, epoch, committed, end):
                self._own(log, epoch, committed, end)
            case OwnershipLost(log, committed):
                self._line(log).go_back(committed)
                self._queue.disown(log)
                self._learned(log, self._follower.catch_up(log, committed))
            case Rewritten(log, committed):
                self._line(log).begin_anew(self._follower.rebuild(log, committed))

    def on_handler_failed(self, _message: object, error: Exception) -> None:
        """What failed had no turn of its own to be taken back: the state cannot be trusted, and is built anew from the log."""
        raise error

    def on_stop(self) -> None:
        """Whoever waits asks again."""
        self._dismiss_all()

    def on_failure(self, *cause: Any) -> None:
        """Whoever waits asks again, and does not wait in vain."""
        self._dismiss_all()
        super().on_failure(*cause)

    # What is asked

    def _ask(self, ask: Ask) -> None:
        try:
            turns = self._queue.ask(ask.reply, ask.command, self._clock())
        except Exception as error:
            logger.exception("command_failed command=%s", type(ask.command).__name__)
            ask.reply.set(SkyclawError(f"internal error: {type(error).__name__}"))
        else:
            self._send(turns)

    def _send(self, turns: Turns) -> None:
        """Hand over what was decided; whoever waits for nothing is answered."""
        for ticket, answer in turns.free:
            _reply(ticket).set(answer)
        for turn in turns:
            line = self._line(turn.book.log)
            line.add(turn)
            if turn.events or turn.answers:
                waiting = [(_reply(ticket), answer) for ticket, answer in turn.answers]
                append = Append(turn.book.log, line.number, turn.start, turn.book.epoch, turn.now, turn.events, waiting)
                self._tell_replicator(append, turn.answers)
        if turns.joint:
            epochs = {book.log: book.epoch for book in self._queue.books.owned}
            read = {log: Read(self._line(log).number, epochs[log], position) for log, position in turns.positions.items()}
            self._tell_replicator(Answers(read, [(_reply(ticket), answer) for ticket, answer in turns.joint]), turns.joint)

    def _tell_replicator(self, message: object, answers: Iterable[tuple[object, object]]) -> None:
        try:
            self._replicator.tell(message)
        except Unavailable as failure:
            for ticket, _ in answers:
                _reply(ticket).set(failure)
            raise

    def _dismiss_all(self) -> None:
        waiting = self._queue.parking.clear()
        while not self.actor_inbox.empty():
            message = self.actor_inbox.get().message
            if isinstance(message, Ask):
                waiting.append(message.reply)
        for ticket in waiting:
            _reply(ticket).set(Unavailable("the queue is being restarted; try again"))

    # What becomes of the logs

    def _line(self, log: str) -> Line:
        line = self._lines.get(log)
        if line is None:
            line = self._lines[log] = Line()
        return line

    def _committed(self, log: str, end: int) -> None:
        self._line(log).commit(end)
        self._queue.committed(log, end)
        self._picture(log)

    def _learned(self, log: str, news: Iterable[Turns]) -> None:
        for turns in news:
            self._send(turns)
        self._picture(log)

    def _picture(self, log: str) -> None:
        """Have a snapshot made when there is much behind the latest one."""
        line, book = self._line(log), self._queue.books.book(log)
        state = book.state
        live = len(state.jobs) + len(state.hosts) + len(state.services) + len(state.keys)
        if state.end - line.snapshot_at >= max(SNAPSHOT_EVERY, live):
            line.snapshot_at = state.end
            self._replicator.tell(Checkpoint(log, line.number, book.epoch, Picture(state), line.rewritten))

    def _go_back(self, log: str, end: int) -> None:
        """Forget what was decided but not stored; what is stored, though not committed, stays."""
        self._line(log).go_back(end)
        self._adopt(log, end)

    def _own(self, log: str, epoch: str, committed: int, end: int) -> None:
        self._learned(log, self._follower.catch_up(log, committed))
        self._adopt(log, end)
        if log in self._queue.stuck:
            logger.critical("stuck_log_gained log=%s cause=%s", log, self._queue.stuck[log])
        else:
            self._send(self._queue.own(log, epoch, self._clock()))

    def _adopt(self, log: str, end: int) -> None:
        turn = self._follower.adopt(log, end)
        if turn is not None:
            self._line(log).add(turn)


def _reply(ticket: object) -> Reply:
    assert isinstance(ticket, Reply), "our tickets are replies"
    return ticket
