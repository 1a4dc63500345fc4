"""What one message leads to: a turn for each log that it changes, and answers that wait for one log, for all owned ones, or for none."""

from collections.abc import Iterator, Mapping

from skyclaw.answers import Claimed, HostsHeard
from skyclaw.errors import NotOwner
from skyclaw.scheduling.books import Books
from skyclaw.scheduling.turn import Book, News, Ticket, Turn

Answers = list[tuple[Ticket, object]]
FREE = NotOwner | HostsHeard


class Turns:
    """The answers in a turn wait for the turn, `joint` ones until every owned log is committed up to `positions`, `free` ones for nothing.

    `about` is the log from which the answer to the present command is computed, None when it is several.
    """

    __slots__ = ("_turns", "about", "books", "free", "joint", "news", "now")

    def __init__(self, books: Books, now: int) -> None:
        self.books, self.now = books, now
        self.about: Book | None = None
        self._begin()

    def _begin(self) -> None:
        self.news = News()
        self._turns: dict[str, Turn] = {}
        self.joint: Answers = []
        self.free: Answers = []

    def __iter__(self) -> Iterator[Turn]:
        return iter(self._turns.values())

    @property
    def positions(self) -> Mapping[str, int]:
        """Where the owned logs end, before anything else is asked."""
        return {book.log: book.state.end for book in self.books.owned}

    @property
    def answers(self) -> Answers:
        """Every answer."""
        return [*(one for turn in self for one in turn.answers), *self.joint, *self.free]

    def of(self, book: Book) -> Turn:
        """The turn of an owned log."""
        turn = self._turns.get(book.log)
        if turn is None:
            turn = self._turns[book.log] = Turn(book, self.now, self.news)
        return turn

    def of_job(self, job_id: str) -> Turn:
        """The turn of the log of a job, which the answer is about; raises NotOwner."""
        self.about = self.books.of(job_id)
        return self.of(self.books.require(self.about))

    def answer(self, ticket: Ticket, answer: object, about: Book | None) -> None:
        """Answer once everything that the answer was computed from is committed."""
        if len(self.books.owned) == 1:
            about = about or self.books.owned[0]
        elif isinstance(answer, Claimed) and answer.jobs:
            about = self.books.log_of(seen.job.id for seen in answer.jobs)
        if isinstance(answer, FREE) or (about is not None and not about.epoch) or not self.books.owned:
            self.free.append((ticket, answer))
        elif about is None:
            self.joint.append((ticket, answer))
        else:
            self.of(about).answers.append((ticket, answer))

    def fail(self) -> None:
        """It all came to nothing, but those who were sent away with nothing stay sent away."""
        for turn in self:
            turn.take_back()
        sent_away = [(ticket, answer) for ticket, answer in self.answers if isinstance(answer, Claimed) and not answer.jobs]
        self._begin()
        for ticket, answer in sent_away:
            self.answer(ticket, answer, None)
