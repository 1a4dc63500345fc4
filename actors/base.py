"""What every actor has: a thread that bears its name, a handler whose failure does not end it, and a death that is noticed."""

import logging
import queue
import threading
from abc import abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pykka

logger = logging.getLogger(__name__)


class Crashed(Exception):
    """A handler raised what no program should catch."""


class Actor(pykka.ThreadingActor):
    """Takes one message at a time in `handle`. An exception there is logged and survived; anything worse ends the actor, loudly."""

    use_daemon_thread = True

    @staticmethod
    def _create_actor_inbox() -> Any:
        """A mailbox that costs less to put into and to wait at than pykka's own, and counts nothing that is asked of it."""
        return queue.SimpleQueue()

    def __init__(self, on_death: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self._on_death = on_death

    @abstractmethod
    def handle(self, message: object) -> None:
        """Deal with one message."""

    def on_start(self) -> None:
        """Name the thread after the actor, for logs and profilers."""
        threading.current_thread().name = type(self).__name__

    def on_receive(self, message: object) -> None:
        """Deal with one message, and live on."""
        try:
            self.handle(message)
        except Exception as error:
            logger.exception("handler_failed actor=%s message=%s", type(self).__name__, type(message).__name__)
            self.on_handler_failed(message, error)
        except BaseException as error:
            raise Crashed(repr(error)) from error  # as it is, it would stop every actor of the process, and tell nobody

    def on_handler_failed(self, message: object, error: Exception) -> None:
        """A handler raised: tell whoever waits. Raising here ends the actor."""

    def on_failure(self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        """The actor is dead: say so, and let the one who started it know."""
        logger.critical("actor_died actor=%s cause=%r", type(self).__name__, error)
        if self._on_death is not None:
            self._on_death(type(self).__name__)
