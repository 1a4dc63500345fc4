"""A coordinator of a later version: whatever is cancelled there is also noted by an event that this version does not know."""

import os
import sys
from dataclasses import dataclass

from skyclaw import codec
from skyclaw.commands import Cancel
from skyclaw.entrypoints.cli import main
from skyclaw.events import ALL, Event
from skyclaw.scheduling import job_desk, queue


@dataclass(frozen=True, slots=True)
class JobMourned(Event):
    """Of a later version."""

    job_id: str


def cancel(turns: object, asked: Cancel) -> object:
    """As before, and one event more."""
    answer = job_desk.cancel(turns, asked)  # type: ignore[arg-type]
    turns.of_job(asked.job_id).emit([JobMourned(asked.job_id)])  # type: ignore[attr-defined]
    return answer


codec.CODEC.__init__((*ALL, JobMourned))  # type: ignore[misc]
queue.HANDLERS[Cancel] = cancel  # type: ignore[assignment]
sys.exit(main(["coordinator"], os.environ))
