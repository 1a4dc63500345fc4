"""Taking measurements in turns: round by round, so that what else the machine does touches all of them alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

Take = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Rounds:
    """What was measured: one row for each round, one column for each thing that was measured."""

    rows: Sequence[Sequence[float]]

    def median(self, column: int) -> float:
        """The middle one of a column."""
        return median(row[column] for row in self.rows)

    def ratio(self, column: int, to: int) -> float:
        """The middle one of the rounds' own ratios: drift between rounds does not touch it."""
        return median(row[column] / row[to] for row in self.rows)


def in_turns(takes: Sequence[Take], most: int, within_s: float) -> Rounds:
    """Measure everything once a round, forwards and backwards in turns, `most` rounds; fewer, but one, when the time is over."""
    end = time.monotonic() + within_s
    rows: list[list[float]] = []
    while len(rows) < most and (not rows or time.monotonic() < end):
        row = [0.0] * len(takes)
        for column in range(len(takes)) if len(rows) % 2 == 0 else reversed(range(len(takes))):
            row[column] = takes[column]()
        rows.append(row)
    return Rounds(rows)
