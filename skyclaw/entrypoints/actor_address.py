"""Where an actor is told things."""

import contextlib
from typing import Any

import pykka


class Address:
    """Known before the actor is, and still after it has stopped, when nothing is left to be done."""

    actor: pykka.ActorRef[Any] | None = None

    @property
    def alive(self) -> bool:
        """Is it there?"""
        return self.actor is not None and self.actor.is_alive()

    def tell(self, message: object) -> None:
        """Leave a message."""
        if self.actor is not None:
            with contextlib.suppress(pykka.ActorDeadError):
                self.actor.tell(message)
