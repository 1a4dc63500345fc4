"""All logs that this process knows: the ones it owns, and copies of the others; and what is known of the hosts over all of them.

A job, and so a service, belongs to the log whose tag its id bears. A host may be registered in several logs: the record with the highest
life counts, the log's tag decides between equal ones.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from skyclaw.answers import HostSeen, JobSeen
from skyclaw.errors import NotOwner, Unavailable, UnknownHost, UnknownJob, UnknownService
from skyclaw.ids import JOB_ID, SERVICE_ID
from skyclaw.scheduling import hosts
from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.jobs import QUEUED, Job
from skyclaw.scheduling.turn import Book, Rules
from skyclaw.services.service import DRAINING, Instance, Service

TAG = slice(len("job_"), len("job_") + 8)
REMEMBER_MS = hosts.FORGET_MS + 600_000  # when a host that no log knows was heard of

Archived = Callable[[str, int], Job | None]  # a job that is no longer live, read from its log up to a position


class Books:
    """`home` is the tag of the log that this process founded. Soft state of hosts is here, of leases in the books."""

    def __init__(self, home: str, rules: Rules, archive: Archived, draw: Callable[[], float]) -> None:
        self.rules, self.draw, self._archive = rules, draw, archive
        self.home = Book(home)
        self.all: list[Book] = [self.home]
        self.owned: list[Book] = []
        self._by_log = {home: self.home}
        self.heard_here: dict[str, int] = {}  # host id -> when
        self.heard_elsewhere: dict[str, int] = {}
        self.repeated: dict[str, str] = {}  # host id -> the claim whose leases it was told twice
        self.claimed: dict[str, int] = {}  # instance of a service -> when a host that asks for one after the other was last given it

    def get(self, log: str) -> Book | None:
        """The book of a log, if it is known."""
        return self._by_log.get(log)

    def book(self, log: str) -> Book:
        """The book of a log; an empty one for a log that was not known."""
        book = self._by_log.get(log)
        if book is None:
            book = self._by_log[log] = Book(log)
            self.all.append(book)
        return book

    def own(self, book: Book, epoch: str, now: int) -> None:
        """Begin to decide for a log."""
        book.open(epoch, now)
        if book not in self.owned:
            self.owned.append(book)

    def disown(self, book: Book) -> None:
        """Decide for it no more."""
        book.close()
        if book in self.owned:
            self.owned.remove(book)

    def writable(self) -> Book:
        """Where to write what belongs to no log: the own one, or else any; raises NotOwner."""
        if self.home.epoch or not self.owned:
            return self.require(self.home)
        return self.owned[0]

    @staticmethod
    def require(book: Book) -> Book:
        """The book, if it is owned here; raises NotOwner."""
        if not book.epoch:
            raise NotOwner(book.log)
        return book

    # Jobs

    def of(self, job_id: str) -> Book:
        """The book of a job; one that bears the tag of no known log would be in the own one."""
        return self._by_log.get(job_id[TAG], self.home)

    def log_of(self, job_ids: Iterable[str]) -> Book | None:
        """The book of all these jobs, or None when they belong to several, or there is none."""
        books = {self.of(job_id) for job_id in job_ids}
        return books.pop() if len(books) == 1 else None

    def is_strange(self, job_id: str) -> bool:
        """Does the id bear the tag of a log that is not known here (yet)?"""
        return job_id[TAG] not in self._by_log and JOB_ID.fullmatch(job_id) is not None

    def job(self, job_id: str) -> Job:
        """A job, wherever it is.

        Raises UnknownJob, NotOwner when others may know it, Unavailable while the archive does not know yet that the job has finished.
        """
        book = self.of(job_id)
        job = book.state.find(job_id) or self.archived(job_id)
        if job is None:
            raise NotOwner(book.log) if not book.epoch and book.log == job_id[TAG] else UnknownJob(f"unknown job: {job_id}")
        if not job.finished and job_id not in book.state.jobs:
            raise Unavailable(f"the end of job {job_id} is being written")
        return job

    def archived(self, job_id: str) -> Job | None:
        """What the committed events say about a job."""
        return self._archive(job_id, self.of(job_id).committed)

    def see_job(self, job: Job) -> JobSeen:
        """The job as it is shown."""
        lost = job.status == QUEUED and not any(self._able(job.asked.required))
        return JobSeen(job, self.of(job.id).deadlines.end_of(job.id), lost)

    def _able(self, required: Sequence[str]) -> Iterator[bool]:
        """For each host that has what is required, whether this is still so."""
        for book in self.all:
            for host in book.state.hosts.values():
                if host.capabilities.issuperset(required):
                    yield len(self.all) == 1 or self.find_host(host.id) is host

    # Hosts

    def find_host(self, host_id: str) -> Host | None:
        """A host as its latest registration has it."""
        if len(self.all) == 1:
            return self.home.state.hosts.get(host_id)
        book = self.registry(host_id)
        return book.state.hosts[host_id] if book is not None else None

    def registry(self, host_id: str) -> Book | None:
        """The log that has a host's latest registration."""
        if len(self.all) == 1:
            return self.home if host_id in self.home.state.hosts else None
        knowing = [book for book in self.all if host_id in book.state.hosts]
        return max(knowing, key=lambda book: (book.state.hosts[host_id].life, book.log), default=None)

    def host(self, host_id: str) -> Host:
        """A host; raises UnknownHost."""
        host = self.find_host(host_id)
        if host is None:
            raise UnknownHost(f"unknown host: {host_id}")
        return host

    def require_host(self, host_id: str) -> None:
        """Raise UnknownHost unless somebody knows the host, or it holds leases: news of its registration may still be on the way."""
        if self.find_host(host_id) is None and not self.active(host_id):
            raise UnknownHost(f"unknown host: {host_id}")

    def hosts(self) -> Iterable[Host]:
        """Every host, as its latest registration has it."""
        if len(self.all) == 1:
            return self.home.state.hosts.values()
        known = {host_id: self.find_host(host_id) for book in self.all for host_id in book.state.hosts}
        return [host for host in known.values() if host is not None]

    def active(self, host_id: str) -> int:
        """How many leases a host holds, in all logs."""
        active = 0
        for book in self.all:
            if host_id in book.state.held:
                active += len(book.state.held[host_id])
        return active

    def leases(self, host_id: str) -> Iterator[tuple[Book, Job]]:
        """The jobs that a host holds."""
        for book in self.all:
            if host_id in book.state.held:
                for job in book.state.leases_of(host_id):
                    yield book, job

    def room(self, host: Host) -> int:
        """How many more jobs the host may hold."""
        return host.max_parallel - self.active(host.id)

    def mode_of(self, host: Host, now: int) -> str:
        """The host's mode; quarantine goes before what the operator said, except for a drain."""
        if host.mode == hosts.ACTIVE:
            for book in self.owned:
                if book.quarantine and book.holds_back(host.id, now):
                    return hosts.QUARANTINED
        return host.mode

    def see_host(self, host: Host, now: int, owners: tuple[str, ...] = ()) -> HostSeen:
        """The host as it is shown."""
        return HostSeen(host, self.mode_of(host, now), self.seen_at(host), self.is_online(host, now), self.active(host.id), owners)

    # Services

    def service_home(self) -> Book:
        """The log that new services go to: of all that were founded the one with the smallest tag."""
        return min((book for book in self.all if book.epoch or book.state.end), key=_tag, default=self.home)

    def services(self) -> list[Service]:
        """All services, the oldest first."""
        return sorted((service for book in self.all for service in book.state.services.values()), key=_age)

    def find_service(self, service: str) -> Service | None:
        """A service by its id, or by its name: of several with that name it is the oldest."""
        for book in self.all:
            if service in book.state.services:
                return book.state.services[service]
        return self.named(service)

    def named(self, name: str) -> Service | None:
        """The service that owns a name."""
        return next((service for service in self.services() if service.name == name), None)

    def service(self, service: str) -> Service:
        """A service by its id or name; raises UnknownService, or NotOwner when another coordinator may know it."""
        found = self.find_service(service)
        if found is None:
            book = self.service_home()
            if SERVICE_ID.fullmatch(service) is not None:
                book = self._by_log.get(service[TAG], book)
            self.require(book)
            raise UnknownService(f"unknown service: {service}")
        return found

    def count_instances(self, host_id: str) -> int:
        """How many instances of services a host has, in all logs."""
        count = 0
        for book in self.all:
            if host_id in book.state.placed:
                count += len(book.state.placed[host_id])
        return count

    def instances(self, host_id: str, among: Iterable[Book]) -> Iterator[tuple[Book, Service, Instance]]:
        """The instances of services on a host, in these logs."""
        for book in among:
            if host_id in book.state.placed:
                for service_id in dict.fromkeys(book.state.placed[host_id].values()):
                    service = book.state.services[service_id]
                    for instance in service.instances:
                        if instance.host_id == host_id:
                            yield book, service, instance

    def services_digest(self, host_id: str) -> str:
        """Eight hex digits that change with what is wanted of the host, in all known logs; empty when nothing is."""
        if not self.count_instances(host_id):
            return ""
        wanted = sorted((instance.id, instance.status == DRAINING) for _, _, instance in self.instances(host_id, self.all))
        return hashlib.sha256(repr(wanted).encode()).hexdigest()[:8]

    # When hosts were heard of

    def hear(self, host_id: str, now: int) -> None:
        """A host said something here."""
        self.heard_here[host_id] = now

    def hear_say(self, ages: Mapping[str, int], now: int) -> None:
        """Others heard of hosts, so many ms ago."""
        for host_id, age in ages.items():
            self.heard_elsewhere[host_id] = max(now - max(age, 0), self.heard_elsewhere.get(host_id, 0))

    def seen_at(self, host: Host) -> int:
        """When the host was last heard of; when nobody here has, the log alone knows, and only of what it did."""
        return self.last_heard(host.id) or host.updated_at

    def last_heard(self, host_id: str) -> int:
        """When anybody heard of the host while this process lived; 0 when nobody did."""
        return max(self.heard_here.get(host_id, 0), self.heard_elsewhere.get(host_id, 0))

    def is_online(self, host: Host, now: int) -> bool:
        """Was the host heard of lately?"""
        return now - self.seen_at(host) <= hosts.ONLINE_MS

    def forget_strangers(self, now: int) -> None:
        """Forget when hosts were heard of that no log has known for long, and when services were claimed last."""
        self.claimed = {instance_id: at for instance_id, at in self.claimed.items() if now - at <= REMEMBER_MS}
        for times in (self.heard_here, self.heard_elsewhere):
            gone = [host_id for host_id, at in times.items() if now - at > REMEMBER_MS and self.find_host(host_id) is None]
            for host_id in gone:
                del times[host_id]
                self.repeated.pop(host_id, None)

    # Matching

    def best(self, books: Sequence[Book], capabilities: frozenset[str]) -> Book | None:
        """The one of these books that has the best job for a host: by priority, then owned here, then by age."""
        if len(books) == 1 and books[0].epoch:
            return books[0]
        found = [(job, book) for book in books if (job := book.state.ready.first(capabilities)) is not None]
        return min(found, key=_rank)[1] if found else None


def _tag(book: Book) -> str:
    return book.log


def _age(service: Service) -> tuple[int, str]:
    return service.created_at, service.id


def _rank(candidate: tuple[Job, Book]) -> tuple[int, bool, int, int, str]:
    job, book = candidate
    return -job.asked.priority, not book.owned, job.created_at, job.position, book.log
