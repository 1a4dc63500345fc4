"""Questions that change nothing: they are answered from all logs that are known here."""

from skyclaw.answers import Explained, HostSeen, HostsHeard, HostsSeen, Surveyed
from skyclaw.commands import Explain, FindHost, Heard, ListHosts, Rollcall, Survey
from skyclaw.scheduling import explaining, hosts
from skyclaw.scheduling.jobs import Job
from skyclaw.scheduling.turns import Turns


def find_host(turns: Turns, asked: FindHost) -> HostSeen:
    """A host; raises UnknownHost."""
    return turns.books.see_host(turns.books.host(asked.host_id), turns.now)


def list_hosts(turns: Turns, _asked: ListHosts) -> HostsSeen:
    """All hosts."""
    return HostsSeen(_see_hosts(turns))


def explain(turns: Turns, asked: Explain) -> Explained:
    """Why a job is where it is; raises UnknownJob, or NotOwner for one that a copy does not know."""
    turns.about = turns.books.of(asked.job_id)
    return explaining.explain(turns.books, turns.books.job(asked.job_id), turns.now)


def survey(turns: Turns, _asked: Survey) -> Surveyed:
    """Everything that is live, and the latest finished jobs."""
    books = turns.books.all
    live = tuple(job for book in books for job in book.state.jobs.values())
    finished = [job for book in books for job in book.state.recent.values()]
    if len(books) > 1:
        finished.sort(key=_end)
    ends = {job_id: end for book in books for job_id, end in book.deadlines.ends().items()}
    services = tuple(turns.books.services())
    return Surveyed(live, ends, _see_hosts(turns), tuple(finished), sum(book.state.queued for book in books), services)


def heard(turns: Turns, asked: Heard) -> HostsHeard:
    """Take note of when others heard of hosts; the answer is the same of this coordinator."""
    turns.books.hear_say(asked.hosts, turns.now)
    return _ages(turns)


def rollcall(turns: Turns, _asked: Rollcall) -> HostsHeard:
    """The hosts that were heard of here, and not merely by others."""
    return _ages(turns)


def _ages(turns: Turns) -> HostsHeard:
    ages = {host_id: turns.now - at for host_id, at in turns.books.heard_here.items()}
    return HostsHeard({host_id: age for host_id, age in ages.items() if age <= hosts.ONLINE_MS})


def _see_hosts(turns: Turns) -> tuple[HostSeen, ...]:
    return tuple(turns.books.see_host(host, turns.now) for host in turns.books.hosts())


def _end(job: Job) -> int:
    return job.updated_at
