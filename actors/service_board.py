"""What ServiceSupervisor shares with the thread that tells the coordinators of its instances."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shown:
    """An instance as the coordinators are to be told of it; `output` is the folder of what it has printed."""

    instance_id: str
    status: str
    port: int | None
    error: str | None
    output: Path


class ServiceBoard:
    """The instances of this host. Only the supervisor puts them up; each of `nudges` is called when something of them has changed."""

    def __init__(self) -> None:
        self.shown: tuple[Shown, ...] = ()
        self.nudges: list[Callable[[], None]] = []

    def put(self, shown: tuple[Shown, ...]) -> None:
        """These are the instances now."""
        if shown != self.shown:
            self.shown = shown
            for nudge in self.nudges:
                nudge()
