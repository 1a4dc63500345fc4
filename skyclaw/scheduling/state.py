"""The fold of a log: every live job, every host, every service, the idempotency keys, and the indexes that make claims cheap.

`apply` takes one event; it returns what it replaced, so that events which were not committed can be taken back (`undo`). Memory grows with
live work: a finished job is kept as a head without outputs while it is among the latest thousand, afterwards the log alone knows it.
"""

from collections.abc import Callable, Iterable
from functools import partial

from skyclaw import events as ev
from skyclaw.scheduling import hosts, jobs
from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.idempotency import Answered, Keys
from skyclaw.scheduling.jobs import LEASED, QUEUED, Job, Stamp
from skyclaw.scheduling.matching import DelayedJobs, ReadyJobs
from skyclaw.services import service as services
from skyclaw.services.service import Service

RECENT = 1000

Undo = Callable[[], object]


class State:
    """What the log says, up to position `end`."""

    def __init__(self) -> None:
        self.end = 0
        self.jobs: dict[str, Job] = {}
        self.hosts: dict[str, Host] = {}
        self.recent: dict[str, Job] = {}  # finished, oldest first
        self.keys = Keys()
        self.ready = ReadyJobs(self.jobs.get)
        self.delayed = DelayedJobs(self.jobs.get)
        self.held: dict[str, set[str]] = {}  # host id -> ids of the jobs it leases
        self.queued = 0
        self.services: dict[str, Service] = {}
        self.placed: dict[str, dict[str, str]] = {}  # host id -> its instances -> whose they are (service id)

    def find(self, job_id: str) -> Job | None:
        """A live job, or a recently finished one as its head."""
        return self.jobs.get(job_id) or self.recent.get(job_id)

    def leases_of(self, host_id: str) -> list[Job]:
        """The jobs that a host holds."""
        return [self.jobs[job_id] for job_id in self.held.get(host_id, ())]

    def apply(self, event: ev.Event, stamp: Stamp) -> list[Undo]:
        """Fold one event; the returned steps, run in reverse, take it back."""
        self.end = stamp.seq
        if hasattr(event, "job_id"):  # as nearly every event has
            return self._apply_to_job(event, stamp)
        match event:
            case ev.Pruned(keys_until=until):
                return [partial(self.keys.put_back, self.keys.prune(until))]
            case ev.RequestAnswered(scope=scope, key=key, digest=digest, subjects=subjects):
                return self._remember(scope, key, Answered(digest, subjects, stamp.seq, stamp.at))
            case ev.HostRegistered() | ev.HostModeChanged() | ev.HostForgotten():
                return [self._put_host(event.host_id, hosts.evolve(self.hosts.get(event.host_id), event, stamp))]
        service_id = getattr(event, "service_id", None)
        if service_id is not None:
            return self._apply_to_service(service_id, event, stamp)
        return []  # it is about the log itself

    def _apply_to_service(self, service_id: str, event: ev.Event, stamp: Stamp) -> list[Undo]:
        undo = [self.put_service(service_id, services.evolve(self.services.get(service_id), event, stamp.at))]
        if isinstance(event, ev.ServiceDeployed):
            undo += self._remember_own(event, service_id, stamp)
        return undo

    def _apply_to_job(self, event: ev.Event, stamp: Stamp) -> list[Undo]:
        if isinstance(event, ev.JobEnqueued):
            return self._enqueued(event, stamp)
        job = jobs.evolve(self.find(event.job_id), event, stamp)  # type: ignore[attr-defined]  # as `apply` has seen
        if job is None:
            return []
        undo = [self.put(job)]
        if isinstance(event, ev.JobLeaseExpired | ev.JobCompleted | ev.JobFailed) and event.host_id in self.hosts:
            host = self.hosts[event.host_id]
            changed = hosts.evolve(host, event, stamp)
            if changed is not host:
                undo.append(self._put_host(event.host_id, changed))
        return undo

    def _enqueued(self, event: ev.JobEnqueued, stamp: Stamp) -> list[Undo]:
        job = jobs.evolve(None, event, stamp)
        assert job is not None
        return [self.put(job), *self._remember_own(event, event.job_id, stamp)]

    def _remember_own(self, event: ev.JobEnqueued | ev.ServiceDeployed, subject: str, stamp: Stamp) -> list[Undo]:
        """Remember the key that the event itself carries."""
        if event.key is None or event.scope is None or event.digest is None:
            return []
        return self._remember(event.scope, event.key, Answered(event.digest, (subject,), stamp.seq, stamp.at))

    def _remember(self, scope: str, key: str, entry: Answered) -> list[Undo]:
        self.keys.put(scope, key, entry)
        return [partial(self.keys.drop, scope, key)]

    def _put_host(self, host_id: str, host: Host | None) -> Undo:
        old = self.hosts.get(host_id)
        if host is None:
            self.hosts.pop(host_id, None)
        else:
            self.hosts[host_id] = host
        return partial(self._put_host, host_id, old)

    def put_service(self, service_id: str, service: Service | None) -> Undo:
        """Make this the service's present version (None: there is none); running the answer makes the former one present again."""
        old = self.services.get(service_id)
        for instance in old.instances if old is not None else ():
            placed = self.placed[instance.host_id]
            del placed[instance.id]
            if not placed:
                del self.placed[instance.host_id]
        if service is None:
            self.services.pop(service_id, None)
        else:
            self.services[service_id] = service
            for instance in service.instances:
                self.placed.setdefault(instance.host_id, {})[instance.id] = service_id
        return partial(self.put_service, service_id, old)

    def put(self, job: Job) -> Undo:
        """Make this the job's present version; running the answer makes the former one present again."""
        old = self.find(job.id)
        place = self._leave(old)
        forgotten = self.enter(job)
        return partial(self._put_back, job.id, old, place, forgotten)

    def _put_back(self, job_id: str, old: Job | None, place: int, forgotten: Job | None) -> None:
        """Take a job's present version back; `forgotten` had to make room for it."""
        self._leave(self.find(job_id))
        self.jobs.pop(job_id, None)
        if forgotten is not None:
            self._recall(forgotten, 0)
        if old is not None and old.finished:
            self._recall(old, place)
        elif old is not None:
            self.enter(old)

    def _leave(self, job: Job | None) -> int:
        """Take a job out of the counts and indexes; returns its place among the finished ones, if it had one."""
        if job is None:
            return 0
        if job.finished:
            place = self._place_of(job.id)
            del self.recent[job.id]
            return place
        if job.status == QUEUED:
            self.queued -= 1
        elif job.lease is not None:
            held = self.held[job.lease.host_id]
            held.discard(job.id)
            if not held:
                del self.held[job.lease.host_id]
        return 0

    def enter(self, job: Job) -> Job | None:
        """Enter a job into the counts and indexes; returns the finished job that memory let go for it."""
        if job.finished:
            self.jobs.pop(job.id, None)
            self.recent[job.id] = job.head()
            return self.recent.pop(next(iter(self.recent))) if len(self.recent) > RECENT else None
        self.jobs[job.id] = job
        if job.status == LEASED and job.lease is not None:
            self.held.setdefault(job.lease.host_id, set()).add(job.id)
            return None
        self.queued += 1
        if job.not_before:
            self.delayed.add(job)
        else:
            self.ready.add(job)
        return None

    def _place_of(self, job_id: str) -> int:
        """Where a job stands in `recent`: at the end when it is queued again at once, somewhere when it is on request."""
        if next(reversed(self.recent)) == job_id:
            return len(self.recent) - 1
        return list(self.recent).index(job_id)

    def _recall(self, job: Job, place: int) -> None:
        finished = list(self.recent.items())
        finished.insert(place, (job.id, job))
        self.recent = dict(finished)

    def wake(self, now: int) -> list[Job]:
        """Move the delayed jobs whose time has come among the ready ones; returns them."""
        due = self.delayed.due(now)
        for job in due:
            self.ready.add(job)
        return due

    def tidy(self) -> None:
        """Drop what is left in the indexes of jobs that are no longer queued, once it is much."""
        self.ready.tidy(self.queued)
        self.delayed.tidy(self.queued)


def undo_all(steps: Iterable[Undo]) -> None:
    """Take events back, the latest first."""
    for step in reversed(list(steps)):
        step()
