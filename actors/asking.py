"""How threads outside talk to an actor: an address that survives the actor's restart, and a reply to wait for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pykka

from skyclaw.commands import Command
from skyclaw.errors import Unavailable, Undecided


class Post:
    """The address of an actor, whichever incarnation of it lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ref: pykka.ActorRef[Any] | None = None

    @property
    def alive(self) -> bool:
        """Is somebody there?"""
        return self.ref is not None and self.ref.is_alive()

    def tell(self, message: object) -> None:
        """Leave a message; raises Unavailable when nobody is there to take it."""
        try:
            if self.ref is not None:
                return self.ref.tell(message)
        except pykka.ActorDeadError:
            pass  # as if there were none
        raise Unavailable(f"{self.name} is being restarted; try again")


class Reply:
    """One answer, set once by an actor and awaited by one thread. Not touched by a frozen clock."""

    __slots__ = ("_answer", "_come", "_gate")

    def __init__(self) -> None:
        self._gate = threading.Lock()  # held until the answer has come; far cheaper than an Event
        self._gate.acquire()
        self._come = False
        self._answer: Any = None

    def set(self, answer: object) -> None:
        """Give the answer, the first of which counts; an exception is raised at the one who waits."""
        if not self._come:
            self._answer, self._come = answer, True
            self._gate.release()

    def wait(self, timeout_s: float) -> bool:
        """Has the answer come within this time? For the one thread that waits."""
        if not self._come and self._gate.acquire(timeout=timeout_s):
            self._gate.release()
        return self._come

    def get(self, timeout_s: float) -> Any:
        """The answer; raises the refusal it may be, or Undecided after the time."""
        if not self.wait(timeout_s):
            raise Undecided
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@dataclass(frozen=True, slots=True)
class Ask:
    """A command on its way to the queue."""

    command: Command
    reply: Reply


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Whoever waits for this reply wants an answer now."""

    reply: Reply
