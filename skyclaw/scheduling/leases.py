"""When leases end: soft state, in the owner's memory and by the owner's clock only.

A restart or a takeover gives every lease its full time again, so skew and downtime can only lengthen a lease.
"""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from skyclaw.scheduling.jobs import Job

OVERTIME_MS = 30_000  # a lease is not renewed beyond the job's own time limit and this


class Known(NamedTuple):
    """What is known of a lease's end, ms."""

    end: int
    last: int | None  # the end of all extensions
    entry: int  # the time of its entry in the heap


class Deadlines:
    """The end of each lease, ms. A renewal only moves the end; the heap is corrected when the lease's entry comes up."""

    def __init__(self) -> None:
        self._ends: dict[str, Known] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._ends)

    def end_of(self, job_id: str) -> int | None:
        """When the job's lease ends, or None when it has none."""
        known = self._ends.get(job_id)
        return known.end if known else None

    def ends(self) -> dict[str, int]:
        """The end of every lease."""
        return {job_id: known.end for job_id, known in self._ends.items()}

    def start(self, job: Job, now: int) -> None:
        """A lease begins (for this owner): it has its full time from now."""
        assert job.lease is not None
        end, limit = now + job.lease.ttl_ms, job.asked.timeout_ms
        self._ends[job.id] = Known(end, None if limit is None else max(end, now + limit + OVERTIME_MS), end)
        heapq.heappush(self._heap, (end, job.id))

    def renew(self, job: Job, now: int) -> None:
        """Give the lease its full time again, within what the job's own time limit allows."""
        assert job.lease is not None
        _, last, entry = self._ends[job.id]
        end = now + job.lease.ttl_ms
        self._ends[job.id] = Known(end if last is None else min(end, last), last, entry)

    def drop(self, job_id: str) -> None:
        """The lease is over."""
        self._ends.pop(job_id, None)

    def due(self, now: int) -> Iterator[str]:
        """The jobs whose leases have ended, each once; the caller decides what follows."""
        while self._heap and self._heap[0][0] <= now:
            at, job_id = heapq.heappop(self._heap)
            known = self._ends.get(job_id)
            if known is None or known.entry != at:
                continue  # of a lease that is over
            if known.end > now:
                self._ends[job_id] = known._replace(entry=known.end)
                heapq.heappush(self._heap, (known.end, job_id))
            else:
                del self._ends[job_id]
                yield job_id
