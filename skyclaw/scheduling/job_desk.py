"""What may be asked about jobs. Each function decides, lets the events happen in the turn of the job's log, and returns the answer.

Whoever would change a log that another coordinator decides for gets NotOwner.
"""

from skyclaw.answers import Elsewhere, JobSeen, JobsSeen, ReportsSeen
from skyclaw.commands import Cancel, Enqueue, Release, Report, ReportAll, Retry
from skyclaw.errors import NotOwner, QueueFull, Refused, SkyclawError, UnknownJob
from skyclaw.scheduling import jobs
from skyclaw.scheduling.books import TAG, Books
from skyclaw.scheduling.turn import Book
from skyclaw.scheduling.turns import Turns


def enqueue(turns: Turns, asked: Enqueue) -> JobsSeen:
    """Accept all the jobs, or none; raises QueueFull."""
    books = turns.books
    book = turns.about = home_of(books, asked)
    for job in asked.jobs:
        if books.of(job.job_id) is not book:
            raise ValueError(f"job {job.job_id}, whose id bears the tag of another log, was to be accepted into {book.log}")
    if book.state.queued + len(asked.jobs) > books.rules.max_queued:
        raise QueueFull(f"{book.state.queued} jobs are queued, the limit is {books.rules.max_queued}")
    turns.of(book).emit(asked.jobs)
    return JobsSeen(tuple(JobSeen(book.state.jobs[job.job_id]) for job in asked.jobs))


def home_of(books: Books, asked: Enqueue) -> Book:
    """The log that is to accept the jobs; raises NotOwner."""
    log = books.home.log if asked.home is None else asked.home
    book = books.get(log)
    if book is None or not book.epoch:
        raise NotOwner(log, log)
    return book


def report(turns: Turns, asked: Report) -> JobSeen | Elsewhere:
    """Take an attempt's result; the one that ended the job may come again. Raises UnknownHost, UnknownJob, NotLeased, StaleAttempt."""
    turn, books = turns.of_job(asked.job_id), turns.books
    books.require_host(asked.host_id)
    job = books.job(asked.job_id)
    if jobs.repeats(job, asked.host_id, asked.token):
        return JobSeen(job, duplicate=True, until=turn.book.state.end)
    turn.emit(jobs.report(job, asked.host_id, asked.token, asked.outcome, turn.now, books.draw()))
    return show(turns, job.id)


def report_all(turns: Turns, asked: ReportAll) -> ReportsSeen:
    """Take several results; a refusal of one does not touch the others. Raises UnknownHost, and NotOwner when it is about one log only."""
    books = turns.books
    about = books.log_of(one.job_id for one in asked.reports)
    if about is not None:
        books.require(about)
    books.require_host(asked.host_id)
    results: list[tuple[str, str] | tuple[str, str, str]] = []
    for one in asked.reports:
        try:
            report(turns, one)
            results.append((one.job_id, books.job(one.job_id).status))
        except SkyclawError as error:
            refusal = as_owner(books, one, error)
            results.append((one.job_id, refusal.code, str(refusal)))
    turns.about = about
    return ReportsSeen(tuple(results))


def release(turns: Turns, asked: Release) -> JobSeen | Elsewhere:
    """A host gives a job back. Raises UnknownHost, UnknownJob, NotLeased, StaleAttempt."""
    turn, books = turns.of_job(asked.job_id), turns.books
    books.require_host(asked.host_id)
    if asked.unheard is not None and books.repeated.get(asked.host_id) == asked.unheard:
        raise Refused(f"the host asked again and knows of job {asked.job_id}")
    turn.emit(jobs.release(books.job(asked.job_id), asked.host_id, asked.token, asked.reason))
    return show(turns, asked.job_id)


def as_owner(books: Books, asked: object, refusal: SkyclawError) -> SkyclawError:
    """The refusal, unless the lease was given by a later owner than this process knows of: then it has no say any more."""
    if isinstance(asked, Report | Release) and isinstance(refusal, Refused | UnknownJob):
        book = books.of(asked.job_id)
        return NotOwner(book.log) if book.precedes(asked.token) else refusal
    return refusal


def cancel(turns: Turns, asked: Cancel) -> JobSeen | Elsewhere:
    """Stop a job. Raises UnknownJob, AlreadyFinished."""
    turns.of_job(asked.job_id).emit(jobs.cancel(turns.books.job(asked.job_id)))
    return show(turns, asked.job_id)


def retry(turns: Turns, asked: Retry) -> JobSeen | Elsewhere:
    """Queue a finished job again. Raises UnknownJob, NotFinished, Refused."""
    turns.of_job(asked.job_id).emit(jobs.retry(turns.books.job(asked.job_id)))
    return show(turns, asked.job_id)


def show(turns: Turns, job_id: str) -> JobSeen | Elsewhere:
    """The job if it is live; otherwise its log has it, with its outputs. Raises NotOwner for a job that a copy does not know."""
    books = turns.books
    book = turns.about = books.of(job_id)
    job = book.state.jobs.get(job_id)
    if job is not None:
        return books.see_job(job)
    if not book.epoch and book.log == job_id[TAG] and job_id not in book.state.recent and books.archived(job_id) is None:
        raise NotOwner(book.log)
    return Elsewhere(job_id, book.state.end)
