"""A frozen clock that the test moves, and coordinators that follow one another on the same log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from freezegun import freeze_time

from actors.coordinator import Coordinator
from skyclaw.store.memory import MemoryEventLog

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Travelling(Protocol):
    """Whoever has a coordinator that was started."""

    coordinator: Coordinator


Traveller = TypeVar("Traveller", bound=Travelling)


@contextmanager
def journey(log: MemoryEventLog, traveller: Callable[[MemoryEventLog, Any], Traveller]) -> Iterator[Callable[[], Traveller]]:
    """What starts a traveller at noon; when it is called again, the former one has stopped, and the next one goes on with the log."""
    with freeze_time(NOON) as clock:
        born: list[Traveller] = []

        def start() -> Traveller:
            if born:
                born[-1].coordinator.stop()
            born.append(traveller(log, clock))
            return born[-1]

        yield start
        born[-1].coordinator.stop()
