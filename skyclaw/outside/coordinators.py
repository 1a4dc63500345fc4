"""The HTTP client of the coordinators, with failover.

1. A request goes to the coordinator that answered last; when that one cannot answer, or does not know the token, to the next, with the
   same body and the same idempotency key. What a coordinator refuses for good (other 4xx) is final.
2. While every coordinator that answers says 503, as in a takeover, the request is repeated for as long as there is patience.
3. What a coordinator said is remembered, so that a reason is never hidden by the silence of others, now or in a later round; nor is it
   that a request may have been carried out.
4. A request that makes jobs names the log they are to go to, the same on every try, and has a key: so it makes them once, whichever
   coordinators heard of it. It is the log of the first coordinator that says which one it has, then and for all further requests; those of
   the TypeScript Skyclaw have none. A key that was drawn here contains it, so another process that is given the key names the same log.
"""

import io
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any, NamedTuple

import orjson
import requests
import urllib3
from requests.adapters import HTTPAdapter

from skyclaw import __version__
from skyclaw.errors import Invalid, NotACoordinator, ServerRefused, Unreachable
from skyclaw.outside import http_answers
from skyclaw.outside.http_answers import Closed, Foreign, NoAnswer
from skyclaw.outside.patience import Patience

__all__ = ["Coordinators", "NotACoordinator", "ServerRefused", "Unreachable"]

CONNECT_S = 2.0
RESERVE_S = 2.0  # of a request's time, kept for each coordinator that may still have to be tried
REMEMBERED = 10_000  # keys of requests that ended without an answer
HOME_S = 3.0  # to learn a home log
PATIENCE_S = 30.0  # a takeover is over by then
KEY, LOG = re.compile(r"[\x21-\x7e]{1,255}"), re.compile(r"[0-9a-f]{8}")
KEY_WITH_HOME = re.compile(r"home-([0-9a-f]{8})-[0-9a-f]{32}")
FOUND, UNKNOWN_TOKEN, NOT_THERE = 200, 401, 404
MAKE_JOBS = frozenset({"/v1/jobs", "/v1/jobs/batch"})

Params = Mapping[str, str | int | None]


class _Call(NamedTuple):
    """A request, the same for every coordinator and every try; a body that is a function is opened anew for each, and streamed."""

    method: str
    path: str
    params: Params | None
    body: bytes | Callable[[], io.RawIOBase] | None
    headers: Mapping[str, str | bytes]
    take: Callable[[Iterator[bytes]], object] | None = None  # for the body of the answer, when that is no JSON


class Coordinators:
    """Asks the coordinators at `urls`; may be used from several threads at once, each keeps its own connections.

    `timeout_s` bounds a request over all coordinators together. `patience_s` is how long a request may be repeated while every coordinator
    that answers says 503; 0 means a single round, None as long as a takeover takes if the request has a key, and a single round otherwise.
    `tell` hears why it is repeated, when that takes a while.
    The methods raise Unreachable, ServerRefused, NotACoordinator; Invalid for what cannot be sent at all. A refusal after which it is not
    known whether something was written has the key among its details, as `key`; one that ends long patience says how long, as `triedForS`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: str | None = None,
        timeout_s: float = 10.0,
        patience_s: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not urls:
            raise Invalid("no coordinator is given")
        self.urls = tuple(url.rstrip("/") for url in urls)
        self._timeout_s, self._patience_s, self._sleep, self._tell, self._clock = timeout_s, patience_s, sleep, tell, clock
        self._headers: dict[str, str | bytes] = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"skyclaw/{__version__}",
        }
        if token:  # of two live values (`a,b`) the first is the one to show
            self._headers["x-skyclaw-token"] = token.split(",")[0].strip().encode()
        self._good = 0  # index of the coordinator that answered last
        self._undecided: dict[str, str] = {}  # key of a request that ended without an answer -> the log it was for
        self._home: str | None = None  # the log that new jobs go to, once it is known
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    @property
    def answering(self) -> str:
        """The address of the coordinator that answered last; of the first one before any did."""
        return self.urls[self._good]

    def turn_to_the_next(self) -> None:
        """Begin with another coordinator than before: the one that answered last cannot reach all of the others."""
        self._good = (self._good + 1) % len(self.urls)

    def get(self, path: str, params: Params | None = None, timeout_s: float | None = None) -> dict[str, Any]:
        """The JSON object at `path`; parameters that are None are left out."""
        return self._ask(_Call("GET", path, params, None, self._headers), timeout_s)

    def post(self, path: str, body: Mapping[str, Any], key: str | None = None, timeout_s: float | None = None) -> dict[str, Any]:
        """The answer to `body`; `key` goes along as x-idempotency-key, the same on every try. What makes jobs gets one if it has none."""
        headers, content = {**self._headers, "content-type": "application/json"}, _json(body)
        if key is not None and not KEY.fullmatch(key):
            raise Invalid("an idempotency key has 1 to 255 printable ASCII characters without blanks")
        if path in MAKE_JOBS:
            named = KEY_WITH_HOME.fullmatch(key or "")
            home = named[1] if named else self._undecided.get(key or "") or self._home_log()
            key = key or (uuid.uuid4().hex if home is None else f"home-{home}-{uuid.uuid4().hex}")
            if home is not None:
                headers["x-skyclaw-home"] = home
        if key is not None:
            headers["x-idempotency-key"] = key
        try:
            return self._ask(_Call("POST", path, None, content, headers), timeout_s)
        except (ServerRefused, Unreachable) as failure:
            if not isinstance(failure, ServerRefused) or failure.status == 503:
                self._give_up(key, headers.get("x-skyclaw-home"))
            if isinstance(failure, ServerRefused) and key is not None and _may_be_written(failure):
                failure.details["key"] = key
            raise

    def delete(self, path: str, key: str) -> dict[str, Any]:
        """The answer to the request to remove what is at `path`."""
        return self._ask(_Call("DELETE", path, None, None, {**self._headers, "x-idempotency-key": key}), None)

    def has(self, path: str) -> bool:
        """Whether there is something at `path`, without fetching it."""
        try:
            self._ask(_Call("HEAD", path, None, None, self._headers), None)
        except ServerRefused as refusal:
            if refusal.status != NOT_THERE:
                raise
            return False
        return True

    def upload(self, path: str, content: Callable[[], io.RawIOBase], content_type: str, timeout_s: float) -> dict[str, Any]:
        """PUT what `content` opens, piece by piece; it is opened again for each coordinator that is tried. May be repeated without harm."""
        return self._ask(_Call("PUT", path, None, content, {**self._headers, "content-type": content_type}), timeout_s)

    def download(self, path: str, take: Callable[[Iterator[bytes]], object], timeout_s: float) -> None:
        """Hand what is at `path` to `take`, piece by piece, and from its beginning again for each coordinator that is tried.

        Raises what `take` raises, too.
        """
        self._ask(_Call("GET", path, None, None, self._headers, take), timeout_s)

    def _give_up(self, key: str | None, home: str | bytes | None) -> None:
        """Nobody decides for this home now: the next new request may go elsewhere, but this one, sent again, only there."""
        if key is not None and isinstance(home, str):
            with self._lock:
                self._home = None
                self._undecided[key] = home
                while len(self._undecided) > REMEMBERED:
                    del self._undecided[next(iter(self._undecided))]

    def close(self) -> None:
        """Give up the idle connections of all threads."""
        with self._lock:
            for session in self._sessions:
                session.close()

    def _home_log(self) -> str | None:
        """The log that new jobs go to: that of the first coordinator that is ready, or else of the first that answers.

        None when no coordinator says one, whatever the reason: the request itself will show it.
        """
        if self._home is not None:
            return self._home
        count, call, unready = len(self.urls), _Call("GET", "/health", None, None, self._headers), list[tuple[int, str]]()
        for index in [(self._good + turn) % count for turn in range(count)]:
            try:
                health = self._one(self.urls[index], call, time.monotonic() + HOME_S / count)
            except (ServerRefused, NoAnswer):
                continue
            if not isinstance(log := health.get("log"), str) or not LOG.fullmatch(log):
                continue
            if health.get("ready") is not False:
                self._good, self._home = index, log
                break
            unready.append((index, log))
        if self._home is None and unready:
            self._good, self._home = unready[0]
        return self._home

    def _ask(self, call: _Call, timeout_s: float | None) -> dict[str, Any]:
        patience_s = self._patience_s if self._patience_s is not None else PATIENCE_S if "x-idempotency-key" in call.headers else 0.0
        patience = Patience(patience_s, self._clock, self._tell)
        refused: ServerRefused | None = None
        latest: ServerRefused | None = None
        while True:
            try:
                return self._round(call, self._timeout_s if timeout_s is None else timeout_s)
            except ServerRefused as refusal:
                if refusal.status != 503:
                    raise
                latest = refusal if call.method != "GET" else http_answers.of_a_question(refusal)
                refused = _weightier(refused, latest)
                pause = max(0.05, 1.0 if refusal.retry_after is None else refusal.retry_after)
            except (Unreachable, NotACoordinator):
                if refused is None or latest is None:
                    raise
                pause = 1.0
            if not patience.allows(pause, latest):
                raise patience.given_up(refused)
            self._sleep(pause)

    def _round(self, call: _Call, timeout_s: float) -> dict[str, Any]:
        """Ask each coordinator once, the last good one first."""
        ends = time.monotonic() + timeout_s
        first, count = self._good, len(self.urls)
        reserve = min(RESERVE_S, timeout_s / (2 * count))
        refused: ServerRefused | None = None
        stranger: ServerRefused | None = None  # to whom we are one
        silent: dict[str, NoAnswer] = {}
        for turn in range(count):
            index = (first + turn) % count
            try:
                answer = self._one(self.urls[index], call, ends - reserve * (count - turn - 1))
            except ServerRefused as refusal:
                if refusal.status == UNKNOWN_TOKEN:
                    stranger = stranger or refusal
                    continue
                if refusal.status < 500:
                    self._good = index
                    raise
                refused = refusal if refused is None else _weightier(refusal, refused)
            except NoAnswer as reason:
                silent[self.urls[index]] = reason
            else:
                self._good = index
                return answer
        raise refused or stranger or _verdict(silent)

    def _one(self, url: str, call: _Call, ends: float) -> dict[str, Any]:
        try:
            return self._exchange(url, call, ends)
        except Closed:
            return self._exchange(url, call, ends)

    def _exchange(self, url: str, call: _Call, ends: float) -> dict[str, Any]:
        left = max(0.05, ends - time.monotonic())
        try:
            with closing(call.body()) if callable(call.body) else nullcontext(call.body) as body:
                request = requests.Request(call.method, url + call.path, call.headers, params=call.params, data=body).prepare()
                timeout = (min(CONNECT_S, left), left)
                with self._session().send(request, stream=True, timeout=timeout, allow_redirects=False) as answer:
                    if call.method == "HEAD":
                        return http_answers.judge_head(answer)
                    if call.take is not None and answer.status_code == FOUND:
                        call.take(http_answers.pieces(answer, ends))
                        return {}
                    return http_answers.judge(answer, http_answers.read(answer, ends))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            raise http_answers.in_plain_words(error) from error

    def _session(self) -> requests.Session:
        """This thread's session: they are not made to be shared."""
        session: requests.Session | None = getattr(self._mine, "session", None)
        if session is None:
            session = self._mine.session = requests.Session()
            session.trust_env = False
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(pool_connections=len(self.urls), pool_maxsize=1))
            with self._lock:
                self._sessions.add(session)
        return session


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:  # a lone surrogate, which UTF-8 has no place for, or no JSON value at all
        raise Invalid(f"the request cannot be written as JSON: {error}") from error


def _weightier(former: ServerRefused | None, latter: ServerRefused) -> ServerRefused:
    """Of two reasons the one to give: the later one of equals, but first of all that it is not known whether something was written."""
    return former if former is not None and _may_be_written(former) and not _may_be_written(latter) else latter


def _may_be_written(refusal: ServerRefused) -> bool:
    return refusal.details.get("written") == "unknown"


def _verdict(silent: Mapping[str, NoAnswer]) -> Unreachable | NotACoordinator:
    """What to say when no coordinator answered."""
    if all(isinstance(reason, Foreign) for reason in silent.values()):
        return NotACoordinator(next(iter(silent)))
    return Unreachable({url: str(reason) for url, reason in silent.items()})
