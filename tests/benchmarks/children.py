"""Python functions in interpreters of their own, so that whoever measures does not share one with what is measured."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ANSWER_S = 300.0
END_S = 5.0
ROOT = Path(__file__).parents[2]

_spawning = multiprocessing.get_context("spawn")


class ChildFailed(Exception):
    """The function in the child raised; the message is its traceback."""


class Child:
    """Runs `main(link, *args)`. The link carries what is asked and answered; the child ends when it is closed, however that happens."""

    def __init__(self, main: Callable[..., object], *args: object) -> None:
        self._link, theirs = _spawning.Pipe()
        self._process = _spawning.Process(target=_run, args=(main, theirs, args), name=main.__name__, daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, *message: object) -> Any:
        """Send a message and wait for the answer to it; raises ChildFailed."""
        self._link.send(message)
        return self.answer()

    def call(self, function: Callable[..., Any], *args: object) -> Any:
        """What the function returns, for a child that runs `serve_calls`; raises ChildFailed."""
        return self.ask(function, *args)

    def answer(self) -> Any:
        """The next thing that the child says; raises ChildFailed."""
        if not self._link.poll(ANSWER_S):
            raise ChildFailed(f"{self._process.name} has said nothing for {ANSWER_S:.0f} s")
        try:
            said = self._link.recv()
        except EOFError:
            raise ChildFailed(f"{self._process.name} died") from None
        if isinstance(said, ChildFailed):
            raise said
        return said

    def stop(self) -> None:
        """Let it end; kill it when it does not."""
        self._link.close()
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve_calls(link: Connection) -> None:
    """A child's main function: calls what it is told to call."""
    while True:
        function, *args = link.recv()
        link.send(function(*args))


def _run(main: Callable[..., object], link: Connection, args: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells every process; ours waits until its link is closed
    try:
        main(link, *args)
    except (EOFError, BrokenPipeError):
        return
    except Exception:
        with suppress(OSError):
            link.send(ChildFailed(traceback.format_exc()))
