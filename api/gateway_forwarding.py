"""One request to a service, over all its attempts.

1. GET, HEAD and OPTIONS, with a body of at most 64 KiB, may be repeated: at a backend that was not tried yet, as long as nothing was
   passed on to the client. Everything else is sent once.
2. A backend that gives no answer, or one of 500 and above, has failed. The last attempt's answer is passed on as it is.
3. A backend that says nothing for a while is given up for another one, if there is one; all attempts together have one time.
4. An answer that breaks off after its first byte was passed on ends the client's connection, never as if it were complete.
"""

import logging
import time
from collections.abc import Collection, Iterator
from typing import Protocol

from skyclaw.outside.upstream import Answer, UpstreamRequest, Upstreams
from skyclaw.outside.upstream_reading import Torn, UpstreamFailed
from skyclaw.outside.upstream_watch import Exchange
from skyclaw.services.routing import Backend, NoBackend, Outcome, Overloaded

logger = logging.getLogger(__name__)

SERVER_ERROR = 500


class Backends(Protocol):
    """Where backends are taken from, and given back to: `skyclaw.services.routing.Backends`."""

    def take(self, key: str, tried: Collection[str] = ...) -> Backend:
        """The backend for the next request, none of those that were tried; raises NoBackend, Overloaded."""

    def give(self, backend: Backend, outcome: Outcome, latency_ms: float) -> None:
        """The request to it is over, after that time."""


class Forwarding:
    """The attempts of one request."""

    def __init__(self, backends: Backends, upstreams: Upstreams, key: str, exchange: Exchange, retries: int) -> None:
        self._backends, self._upstreams, self._key, self._exchange = backends, upstreams, key, exchange
        self._left = retries
        self._tried: list[str] = []
        self._spare: Backend | None = None  # taken by the watchdog

    def run(self, request: UpstreamRequest) -> "Forwarded":
        """The answer; raises UpstreamFailed, ClientLeft, NoBackend, Overloaded."""
        backend: Backend | None = self._backends.take(self._key)
        try:
            while True:
                assert backend is not None
                forwarded, failure = self._attempt(backend, request)
                if forwarded is not None and (forwarded.answer.head.status < SERVER_ERROR or not self._left):
                    return forwarded
                backend = self._another()
                if backend is None:
                    if forwarded is not None:
                        return forwarded
                    assert failure is not None
                    raise failure
                if forwarded is not None:
                    forwarded.close()
                self._left -= 1
        finally:
            self._give_spare_back()

    def _attempt(self, backend: Backend, request: UpstreamRequest) -> "tuple[Forwarded | None, UpstreamFailed | None]":
        self._tried.append(backend.id)
        self._exchange.instead = self._take_spare if self._left else None
        began, outcome = time.monotonic(), Outcome.NEUTRAL
        try:
            answer = self._upstreams.ask(backend, request, self._exchange)
        except UpstreamFailed as failure:
            outcome = Outcome.FAILED
            self._backends.give(backend, outcome, (time.monotonic() - began) * 1000)
            return None, failure
        except BaseException:
            self._backends.give(backend, outcome, (time.monotonic() - began) * 1000)
            raise
        return Forwarded(self._backends, backend, answer, self._exchange), None

    def _another(self) -> Backend | None:
        """A backend for another attempt."""
        if not self._left or not self._exchange.again():
            return None
        spare, self._spare = self._spare, None
        if spare is not None:
            return spare
        try:
            return self._backends.take(self._key, self._tried)
        except (NoBackend, Overloaded):
            return None

    def _take_spare(self) -> bool:
        try:
            self._spare = self._backends.take(self._key, self._tried)
        except (NoBackend, Overloaded):
            return False
        return True

    def _give_spare_back(self) -> None:
        if self._spare is not None:
            self._backends.give(self._spare, Outcome.NEUTRAL, 0.0)
            self._spare = None


class Forwarded:
    """An answer of a backend; iterating gives its body. To be closed, which gives the backend back; safe to be closed twice."""

    def __init__(self, backends: Backends, backend: Backend, answer: Answer, exchange: Exchange) -> None:
        self.answer = answer
        self._backends, self._backend, self._exchange = backends, backend, exchange
        is_whole = answer.body is not None
        self._outcome = self._good() if is_whole or answer.head.status >= SERVER_ERROR else Outcome.NEUTRAL
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        """The pieces of a long answer as they come. Raises ConnectionAbortedError, after it has ended the client's connection."""
        try:
            yield from self.answer.pieces()
            self._outcome = self._good()
        except Torn as torn:
            if torn.is_fault:
                self._outcome = Outcome.FAILED
                logger.warning("answer_broken_off backend=%s cause=%s", self._backend.url, torn)
            self._exchange.abort()
            raise ConnectionAbortedError(str(torn)) from torn

    def close(self) -> None:
        """The answer is not needed any more."""
        if not self._is_closed:
            self._is_closed = True
            self.answer.close()
            self._backends.give(self._backend, self._outcome, self.answer.latency_ms)

    def _good(self) -> Outcome:
        return Outcome.OK if self.answer.head.status < SERVER_ERROR else Outcome.FAILED
