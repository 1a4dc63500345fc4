"""The queue as the threads of the HTTP server see it."""

import threading
from collections.abc import Callable
from typing import Any

from actors.asking import Ask, GiveUp, Post, Reply
from skyclaw import commands as cmd
from skyclaw.errors import NotOwner, Unavailable, Undecided

PATIENCE_S = 5.0
WRITERS = 40  # threads of the server that may wait for a commit; the others are for those who park, who read, and for health
OWN = (cmd.Reap, cmd.StopParking, cmd.Heard, cmd.Rollcall)  # wait for no disk, or are asked by no thread of the server
QUERIES = (
    *(cmd.FindJob, cmd.FindHost, cmd.ListHosts, cmd.Explain, cmd.Survey),
    *(cmd.FindService, cmd.ListServices, cmd.ExplainService),
)


class Desk:
    """Hands commands to the JobQueue and waits for their answers, which come when they are durable."""

    def __init__(self, queue: Post, explain: Callable[[NotOwner], Exception] = lambda refusal: refusal) -> None:
        """`explain` turns the refusal to decide into the reason why nobody can."""
        self._queue, self._explain = queue, explain
        self._writers = threading.BoundedSemaphore(WRITERS)

    def ask(self, command: cmd.Command, timeout_s: float = PATIENCE_S) -> Any:
        """The answer.

        Raises the refusal, NotOwner among them; Undecided after the time; Unavailable while the queue is being restarted or too many wait.
        """
        if isinstance(command, QUERIES):
            return self._query(command, timeout_s)
        if isinstance(command, OWN):
            return self._answer(self._send(command), timeout_s)
        if not self._writers.acquire(blocking=False):
            raise Unavailable("too many requests wait for the disk; try again")
        try:
            return self._answer(self._send(command), timeout_s)
        finally:
            self._writers.release()

    def ask_parked(self, command: cmd.Command, wait_ms: int) -> Any:
        """The answer, for which the queue may wait until there is something to say; after `wait_ms` it is what there is."""
        reply = self._send(command)
        if not reply.wait(wait_ms / 1000):
            self._queue.tell(GiveUp(reply))
        return self._answer(reply, PATIENCE_S)

    def _query(self, command: cmd.Command, timeout_s: float) -> Any:
        """A question has no effect: when it was caught up in a write that failed, it is simply asked again."""
        try:
            return self._answer(self._send(command), timeout_s)
        except (Undecided, NotOwner):
            raise
        except Unavailable:
            return self._answer(self._send(command), timeout_s)

    def _send(self, command: cmd.Command) -> Reply:
        reply = Reply()
        self._queue.tell(Ask(command, reply))
        return reply

    def _answer(self, reply: Reply, timeout_s: float) -> Any:
        try:
            return reply.get(timeout_s)
        except NotOwner as refusal:
            raise self._explain(refusal) from None
