"""Which queued job a host gets: a heap for each distinct set of required capabilities, so that a claim costs the same at any depth.

Order: priority (higher first), then age. Entries are not removed when a job leaves the queue by another way; a stale one is dropped when
it comes up, and all of them when they are the majority.
"""

import heapq
from collections.abc import Callable

from skyclaw.scheduling.jobs import QUEUED, Job

Entry = tuple[int, int, str, int]  # -priority, position, job id, not before
Required = tuple[str, ...]
FindJob = Callable[[str], Job | None]

STALE = 1024  # so many stale entries are borne
EMPTY = 64  # so many empty heaps


class ReadyJobs:
    """The queued jobs that may start now."""

    def __init__(self, find: FindJob) -> None:
        self._find = find
        self._heaps: dict[Required, list[Entry]] = {}
        self._fitting: dict[frozenset[str], list[list[Entry]]] = {}
        self._entries = 0

    def add(self, job: Job) -> None:
        """The job may start from now on."""
        required = job.asked.required
        heap = self._heaps.get(required)
        if heap is None:
            heap = self._heaps[required] = []
            self._fitting.clear()
        heapq.heappush(heap, (-job.asked.priority, job.position, job.id, job.not_before))
        self._entries += 1

    def first(self, capabilities: frozenset[str]) -> Job | None:
        """The best job for a host with these capabilities, which stays."""
        best = self._best(capabilities)
        return self._find(best[0][2]) if best is not None else None

    def take(self, capabilities: frozenset[str]) -> Job | None:
        """Remove and return the best job for a host with these capabilities."""
        best = self._best(capabilities)
        if best is None:
            return None
        self._entries -= 1
        return self._find(heapq.heappop(best)[2])

    def _best(self, capabilities: frozenset[str]) -> list[Entry] | None:
        """The heap at whose top the best job is."""
        best: list[Entry] | None = None
        for heap in self._heaps_for(capabilities):
            self._drop_stale(heap)
            if heap and (best is None or heap[0] < best[0]):
                best = heap
        return best

    def tidy(self, queued: int) -> None:
        """Rebuild the heaps when most of their entries are stale, or many heaps empty; `queued` is the number of queued jobs."""
        if self._entries <= 2 * queued + STALE and len(self._heaps) <= self._entries + EMPTY:
            return
        for required, heap in list(self._heaps.items()):
            alive = sorted({entry for entry in heap if self._is_ready(entry)})
            if alive:
                heap[:] = alive
            else:
                del self._heaps[required]
        self._fitting.clear()
        self._entries = sum(map(len, self._heaps.values()))

    def _heaps_for(self, capabilities: frozenset[str]) -> list[list[Entry]]:
        found = self._fitting.get(capabilities)
        if found is None:
            found = [heap for required, heap in self._heaps.items() if capabilities.issuperset(required)]
            self._fitting[capabilities] = found
        return found

    def _drop_stale(self, heap: list[Entry]) -> None:
        while heap and not self._is_ready(heap[0]):
            heapq.heappop(heap)
            self._entries -= 1

    def _is_ready(self, entry: Entry) -> bool:
        job = self._find(entry[2])
        return job is not None and job.status == QUEUED and job.not_before == entry[3]


class DelayedJobs:
    """The queued jobs that may not start yet, by the time at which they may (ms)."""

    def __init__(self, find: FindJob) -> None:
        self._find = find
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, job: Job) -> None:
        """The job may start at its `not_before`."""
        heapq.heappush(self._heap, (job.not_before, job.id))

    def due(self, now: int) -> list[Job]:
        """Remove and return the jobs whose time has come."""
        ready = []
        while self._heap and self._heap[0][0] <= now:
            job = self._waiting(heapq.heappop(self._heap))
            if job is not None:
                ready.append(job)
        return ready

    def tidy(self, queued: int) -> None:
        """Drop the stale entries when most are; `queued` is the number of queued jobs."""
        if len(self._heap) > 2 * queued + STALE:
            self._heap = sorted({entry for entry in self._heap if self._waiting(entry) is not None})

    def _waiting(self, entry: tuple[int, str]) -> Job | None:
        """The job, unless it no longer waits for this time."""
        job = self._find(entry[1])
        return job if job is not None and job.status == QUEUED and job.not_before == entry[0] else None
