"""A timer that only ticks: it tells an actor to do one round, and waits for real time to pass."""

import threading
from collections.abc import Callable

from skyclaw.errors import Unavailable


class Tick:
    """Time has passed: do one round."""


class Ticker:
    """Says that time passes, every `interval_s` seconds, until it is stopped."""

    def __init__(self, tell: Callable[[object], None], interval_s: float, name: str) -> None:
        self._tell, self._interval_s = tell, interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """Tick no more; harmless when it never began."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                self._tell(Tick())
            except Unavailable:
                continue  # it is being restarted; the next tick finds it
