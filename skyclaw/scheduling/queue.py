"""The queue without I/O: a command and a time go in, events and answers come out.

Every command leads to a turn in each log that it changes; only logs that are owned here change. The events of a turn are applied at once
to the speculative state; answers, refusals included, may leave only when everything they were computed from is committed. A turn that
cannot be committed is taken back. Claims that find nothing, and watchers of jobs, are parked under their ticket and answered by a later
turn, or by news of a log that another coordinator owns: of those, copies are kept, from which questions are answered. A claim is also
sent away when other instances of services are wanted of its host than before, so that the host hears of it at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import (
    Claimed,
    Dismissed,
    Elsewhere,
    HeartbeatSeen,
    HostSeen,
    JobSeen,
    JobsSeen,
    Repeated,
    ReportsSeen,
    ServiceClaimed,
    ServiceSeen,
)
from skyclaw.errors import NotOwner, SkyclawError
from skyclaw.scheduling import host_desk, importing, job_desk, looking, passing_time, service_desk, service_hosts
from skyclaw.scheduling.books import Archived, Books
from skyclaw.scheduling.jobs import QUEUED, Stamp
from skyclaw.scheduling.parking import Parked, Parking
from skyclaw.scheduling.state import State
from skyclaw.scheduling.turn import WANTED_CHANGES, Book, News, Rules, Ticket, Turn
from skyclaw.scheduling.turns import Turns
from skyclaw.services.service import Service

CHANGES_OF_HOSTS = cmd.Register | cmd.ChangeMode
HOST_CHANGES = ev.HostRegistered | ev.HostModeChanged
Handler = Callable[[Turns, Any], object]

HANDLERS: dict[type[cmd.Command], Handler] = {
    cmd.Enqueue: job_desk.enqueue,
    cmd.Cancel: job_desk.cancel,
    cmd.Retry: job_desk.retry,
    cmd.Report: job_desk.report,
    cmd.ReportAll: job_desk.report_all,
    cmd.Release: job_desk.release,
    cmd.Register: host_desk.register,
    cmd.Heartbeat: host_desk.heartbeat,
    cmd.ChangeMode: host_desk.change_mode,
    cmd.FindJob: lambda turns, asked: job_desk.show(turns, asked.job_id),
    cmd.FindHost: looking.find_host,
    cmd.ListHosts: looking.list_hosts,
    cmd.Explain: looking.explain,
    cmd.Survey: looking.survey,
    cmd.Heard: looking.heard,
    cmd.Rollcall: looking.rollcall,
    cmd.Reap: passing_time.reap,
    cmd.Deploy: service_desk.deploy,
    cmd.Scale: service_desk.scale,
    cmd.StopService: service_desk.stop,
    cmd.RestartService: service_desk.restart,
    cmd.Rollback: service_desk.rollback,
    cmd.RemoveService: service_desk.remove,
    cmd.FindService: service_desk.find,
    cmd.ListServices: service_desk.list_all,
    cmd.ExplainService: service_desk.explain,
    cmd.ClaimService: service_hosts.claim,
    cmd.ReportService: service_hosts.report,
    cmd.SyncServices: service_hosts.sync,
    importing.Import: importing.take_over,
    cmd.Evict: lambda turns, asked: _evict(turns, asked),
}


class Queue:
    """Jobs, hosts, services and leases of the logs that this process owns, and what it knows of the others."""

    def __init__(self, home: str, rules: Rules, archive: Archived, draw: Callable[[], float]) -> None:
        self.books = Books(home, rules, archive, draw)
        self.parking = Parking(rules.max_parked)
        self.stuck: dict[str, str] = {}  # log -> why it is not followed any more

    # Which logs there are

    def replace(self, log: str, state: State) -> None:
        """Know a log as it is in this state, everything of which is committed; it is not owned (any more)."""
        book = self.books.book(log)
        self.books.disown(book)
        book.state, book.committed = state, state.end

    def adopt(self, log: str, events: Iterable[tuple[ev.Event, Stamp]], now: int) -> Turn:
        """Build on events that stand in a log, but were not decided here and are not committed yet: the turn that takes them back."""
        turn = Turn(self.books.book(log), now, News())
        for event, stamp in events:
            turn.hear(event, stamp)
        return turn

    def own(self, log: str, epoch: str, now: int) -> Turns:
        """Begin to decide for a log: every lease has its full time again, and whoever waits may have its jobs."""
        self.books.own(self.books.book(log), epoch, now)
        turns = Turns(self.books, now)
        turns.news.freed.update(self.parking.claimants)
        self._settle(turns)
        return turns

    def disown(self, log: str) -> None:
        """Decide for the log no more; turns that are not committed have been taken back."""
        self.books.disown(self.books.book(log))

    def committed(self, log: str, end: int) -> None:
        """The log is committed up to this position, at least."""
        book = self.books.book(log)
        book.committed = max(book.committed, min(end, book.state.end))

    def learn(self, log: str, events: Iterable[tuple[ev.Event, Stamp]], now: int) -> Turns:
        """Follow a log that others decide for: these events of it are committed. Whoever waited for them is answered."""
        turns = Turns(self.books, now)
        book = self.books.book(log)
        if book.epoch:
            raise ValueError(f"log {log} is owned here, not followed")
        for event, stamp in events:
            job_id = getattr(event, "job_id", None)
            before = book.state.jobs.get(job_id) if job_id else None
            if job_id is None and isinstance(event, WANTED_CHANGES):
                turns.news.take_wanted(event, book.state.services.get(event.service_id))
            book.state.apply(event, stamp)
            if job_id:
                turns.news.take(book, event, job_id, before)
            elif isinstance(event, HOST_CHANGES):
                self._dismiss(turns, event.host_id)
        book.committed = book.state.end
        self._settle(turns)
        return turns

    # What is asked

    def ask(self, ticket: Ticket, command: cmd.Command, now: int) -> Turns:
        """One command; its answer is in the returned turns, or will be in later ones when it was parked. A failure leaves no trace."""
        turns = Turns(self.books, now)
        try:
            answer = self._answer(turns, ticket, command)
            if answer is not None:
                turns.answer(ticket, answer, turns.about)
            self._settle(turns)
        except SkyclawError as refusal:
            turns.fail()
            turns.answer(ticket, job_desk.as_owner(self.books, command, refusal), turns.about)
        except Exception:
            turns.fail()
            raise
        return turns

    def give_up(self, ticket: Ticket, now: int) -> Turns:
        """Somebody waits no longer: the answer is what there is. Already answered: nothing happens."""
        turns = Turns(self.books, now)
        waited_for = self.parking.give_up(ticket)
        if isinstance(waited_for, cmd.Claim):
            turns.answer(ticket, self._nothing(waited_for.host_id), None)
        elif waited_for is not None:
            self._show(turns, ticket, waited_for)
        return turns

    def _answer(self, turns: Turns, ticket: Ticket, command: cmd.Command) -> object | None:
        keyed = command.keyed
        if keyed is not None:
            before = self._answered_before(turns, command, keyed)
            if before is not None:
                return before
        match command:
            case cmd.Claim():
                answer: object | None = self._claim(turns, ticket, command)
            case cmd.StopParking():
                answer = self._stop_parking(turns)
            case _:
                answer = self._handle(turns, ticket, command)
        if keyed is not None and not isinstance(answer, NotOwner) and not (isinstance(command, cmd.Enqueue) and command.jobs[0].key):
            self._remember(turns, keyed, answer)
        return answer

    def _answered_before(self, turns: Turns, command: cmd.Command, keyed: cmd.Keyed) -> Repeated | None:
        """What the request was answered before; raises IdempotencyConflict, or NotOwner when another coordinator is to answer it."""
        for book in self._places_of(command):
            before = book.state.keys.find(keyed)
            if before is None:
                continue
            if isinstance(command, cmd.Enqueue) and not book.epoch:
                raise NotOwner(book.log, book.log)
            turns.about = book
            return Repeated(before.subjects, before.seq)
        return None

    def _places_of(self, command: cmd.Command) -> Iterable[Book]:
        """Where the key of a request would be."""
        books = self.books
        job_id: str | None = getattr(command, "job_id", None)
        if job_id is not None:
            return [books.require(books.of(job_id))]
        if isinstance(command, cmd.Enqueue) and command.home is not None:
            home = job_desk.home_of(books, command)
            return [home, *(book for book in books.all if book is not home)]
        if isinstance(command, cmd.ReportAll) and (about := books.log_of(one.job_id for one in command.reports)) is not None:
            return [books.require(about)]
        return books.all

    def _remember(self, turns: Turns, keyed: cmd.Keyed, answer: object) -> None:
        """Let the answer to a request be known when it comes again: in the log that it is about, if it is about one."""
        subjects = _subjects(answer)
        book = (turns.about or self.books.log_of(subjects)) if not isinstance(answer, HostSeen | HeartbeatSeen) else None
        if book is None or not book.epoch:
            book = self.books.writable()
        turns.of(book).emit([ev.RequestAnswered(keyed.scope, keyed.key, keyed.digest, subjects)])

    def _handle(self, turns: Turns, ticket: Ticket, command: cmd.Command) -> object | None:
        answer = HANDLERS[type(command)](turns, command)
        if isinstance(command, cmd.FindJob) and command.park and isinstance(answer, JobSeen):
            if self.parking.full:
                return JobSeen(answer.job, answer.lease_end, answer.unschedulable, parked=False)
            self.parking.watch(ticket, command.job_id)
            return None
        if isinstance(command, CHANGES_OF_HOSTS):
            self._dismiss(turns, command.host_id)
        if isinstance(command, cmd.Reap):
            turns.news.freed.update(self.parking.claimants)  # a quarantine may be over, jobs may be back from turns that were not committed
            turns.news.touched.update(self.parking.watched)  # or gone
        return answer

    def _claim(self, turns: Turns, ticket: Ticket, command: cmd.Claim) -> Claimed | NotOwner | None:
        self._dismiss(turns, command.host_id)  # the host asks anew, so nobody listens to its former claim
        host = self.books.host(command.host_id)
        passing_time.wake(turns)
        try:
            answer = host_desk.claim(turns, command)
        except NotOwner as elsewhere:
            return elsewhere
        if answer.jobs or not command.park or command.keyed or answer.reason not in (None, "full"):
            return answer
        if self.parking.full:
            return replace(answer, crowded=True)
        self.parking.park(ticket, command, host.capabilities)
        return None

    def _stop_parking(self, turns: Turns) -> Dismissed:
        count = len(self.parking)
        self.parking.close()
        for host_id in list(self.parking.claimants):
            self._dismiss(turns, host_id)
        for job_id in list(self.parking.watched):
            for ticket in self.parking.take_watchers(job_id):
                self._show(turns, ticket, job_id)
        turns.about = None
        return Dismissed(count)

    def _show(self, turns: Turns, ticket: Ticket, job_id: str) -> None:
        """Show a job to somebody who waited for its end."""
        try:
            turns.answer(ticket, job_desk.show(turns, job_id), turns.about)
        except NotOwner as elsewhere:
            turns.answer(ticket, elsewhere, None)

    def _dismiss(self, turns: Turns, host_id: str) -> None:
        parked = self.parking.take(host_id)
        if parked is not None:
            turns.answer(parked.ticket, self._nothing(host_id), None)

    def _nothing(self, host_id: str) -> Claimed:
        return Claimed((), services=self.books.services_digest(host_id))

    # Those who wait

    def _settle(self, turns: Turns) -> None:
        """Give what has become free to those who wait for it, and tell those who wait for an end."""
        passing_time.wake(turns)
        for host_id in turns.news.wanted:
            self._dismiss(turns, host_id)
        if self.parking:
            self._answer_those_who_wait(turns)

    def _answer_those_who_wait(self, turns: Turns) -> None:
        news = turns.news
        if self.parking.claimants:
            for parked in self.parking.waiting(news.freed):
                self._serve(turns, parked, host_desk.not_in(self.books.all, parked.claim.skip))
            ready = [(book, job.asked.required) for book, job in news.ready if _is_ready(book, job.id, turns.now)]
            for (book, required), count in Counter(ready).items():
                self._offer(turns, book, required, count)
        if self.parking.watched:
            ended = [one for one in news.touched if one in self.parking.watched and one not in self.books.of(one).state.jobs]
            for job_id in ended:
                for ticket in self.parking.take_watchers(job_id):
                    self._show(turns, ticket, job_id)

    def _offer(self, turns: Turns, book: Book, required: tuple[str, ...], count: int) -> None:
        """`count` jobs with these requirements became ready in a log: wake as many claims as that takes."""
        for parked in self.parking.fitting(required):
            if count <= 0:
                break
            if book.epoch:
                count -= sum(seen.job.asked.required == required for seen in self._serve(turns, parked, self.books.owned))
            else:
                count -= self._send_away(turns, parked, book)

    def _serve(self, turns: Turns, parked: Parked, among: Iterable[Book]) -> tuple[JobSeen, ...]:
        """Lease jobs to a parked claim; it stays parked when there is nothing for it."""
        host = self.books.find_host(parked.claim.host_id)
        if host is None or host_desk.blocked(turns, host):
            return ()
        try:
            leased = host_desk.lease(turns, host, parked.claim, list(among))
        except NotOwner as elsewhere:
            self.parking.take(host.id)
            turns.answer(parked.ticket, elsewhere, None)
            return ()
        if leased:
            self.parking.take(host.id)
            turns.answer(parked.ticket, Claimed(leased, services=self.books.services_digest(host.id)), None)
        return leased

    def _send_away(self, turns: Turns, parked: Parked, book: Book) -> int:
        """Tell a parked claim where there is work for it; returns how much it may take."""
        host = self.books.find_host(parked.claim.host_id)
        if host is None or host_desk.blocked(turns, host):
            return 0
        self.parking.take(host.id)
        turns.answer(parked.ticket, NotOwner(book.log), None)
        return min(parked.claim.limit, self.books.room(host))


def _is_ready(book: Book, job_id: str, now: int) -> bool:
    job = book.state.jobs.get(job_id)
    return job is not None and job.status == QUEUED and job.not_before <= now


def _subjects(answer: object) -> tuple[str, ...]:
    """Whom an answer was about."""
    match answer:
        case JobSeen(job=job):
            return (job.id,)
        case Elsewhere(job_id=job_id):
            return (job_id,)
        case JobsSeen(jobs=seen) | Claimed(jobs=seen):
            return tuple(one.job.id for one in seen)
        case ReportsSeen(results=results):
            return tuple(result[0] for result in results)
        case HostSeen(host=host) | HeartbeatSeen(host=HostSeen(host=host)):
            return (host.id,)
        case ServiceSeen(service=service) | ServiceClaimed(service=Service() as service):
            return (service.id,)
    return ()


def _evict(turns: Turns, asked: cmd.Evict) -> cmd.Evict:
    """Write down that a coordinator was turned out; raises NotOwner."""
    turns.about = turns.books.writable()
    turns.of(turns.about).emit([ev.PeerEvicted(asked.node, asked.by)])
    return asked
