"""What HostAgent shares with the threads around it: the room for jobs, and what is to be told to the coordinators."""

import threading
from collections.abc import Callable, Iterable
from itertools import islice

from actors.host_messages import GiveBack, Report


class Slots:
    """How many more jobs fit. The claim loop takes, HostAgent gives back; `nudge` is called when there is more room."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free, self._lock = count, threading.Lock()
        self.closed = False
        self.claiming = False  # a claim is on its way: jobs may come of it
        self.nudge: Callable[[], None] = lambda: None

    @property
    def free(self) -> int:
        """Room for that many jobs; none once closed."""
        return 0 if self.closed else self._free

    @property
    def unused(self) -> bool:
        """Whether there is no job, and none can come from a claim that was made."""
        return not self.claiming and self._free == self.count

    def take(self, count: int) -> None:
        """Jobs have come."""
        with self._lock:
            self._free -= count

    def give(self, count: int) -> None:
        """Jobs are over."""
        with self._lock:
            self._free += count
        self.nudge()

    def close(self) -> None:
        """Take no more jobs."""
        self.closed = True


class Outbox:
    """What is to be told to the coordinators, oldest first. Things stay in it until they are settled; `nudge` is called when one comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: dict[str, Report] = {}
        self._returns: dict[str, GiveBack] = {}
        self.goodbye = self.goodbye_failed = False
        self.nudge: Callable[[], None] = lambda: None

    @property
    def owes(self) -> bool:
        """Whether something must still be told; a goodbye that nobody heard is not worth waiting for."""
        return bool(self._reports or self._returns or (self.goodbye and not self.goodbye_failed))

    def __len__(self) -> int:
        return len(self._reports)

    def __bool__(self) -> bool:
        return bool(self._reports or self._returns or self.goodbye)

    def put(self, item: Report | GiveBack) -> None:
        """Something to tell; it takes the place of what was to be told of the same attempt."""
        with self._lock:
            if isinstance(item, Report):
                self._reports[item.attempt_id] = item
            else:
                self._returns[item.attempt_id] = item
        self.nudge()

    def say_goodbye(self) -> None:
        """The coordinator is to know that this host drains."""
        self.goodbye = True
        self.nudge()

    def reports(self, most: int | None = None) -> list[Report]:
        """The oldest reports, or all."""
        with self._lock:
            return list(islice(self._reports.values(), most))

    def returns(self) -> list[GiveBack]:
        """The jobs to be released."""
        with self._lock:
            return list(self._returns.values())

    def remove(self, items: Iterable[Report | GiveBack]) -> None:
        """These are settled."""
        with self._lock:
            for item in items:
                if isinstance(item, Report):
                    self._reports.pop(item.attempt_id, None)
                else:
                    self._returns.pop(item.attempt_id, None)
