"""Letting time pass for the queue."""

from typing import Any

from actors.lease_reaper import INTERVAL_S, LATE_S, LeaseReaper
from skyclaw.answers import Reaped
from skyclaw.commands import Reap


class Asked:
    """A desk that keeps what it is asked."""

    def __init__(self) -> None:
        self.commands: list[Any] = []

    def ask(self, command: Any) -> Reaped:
        self.commands.append(command)
        return Reaped()


def test_the_time_for_which_the_process_was_stopped_is_told() -> None:
    now, desk = [100.0], Asked()
    reaper = LeaseReaper(desk, clock=lambda: now[0])  # type: ignore[arg-type]  # of the desk it only asks
    for passed_s in (INTERVAL_S, INTERVAL_S + LATE_S, 60.0, INTERVAL_S):
        now[0] += passed_s
        reaper.run_once()
    assert desk.commands == [Reap(), Reap(), Reap(slept_ms=58_500), Reap()]
