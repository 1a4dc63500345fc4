"""What another coordinator has to decide goes there as it came, and its answer goes back as it is.

1. NotOwner(log), raised anywhere in a request, sends the request to the owner of the log. `x-skyclaw-tried` names the coordinators that
   have had it; it never goes to one of them, and to no further one once MOST_TRIED have.
2. While no owner is known, or the known one cannot be reached, another one is awaited for a moment, so that a hand-over does not show.
   When it is this coordinator in the end, the request is done here.
3. What may have arrived is not sent again, unless it was a question: only the client knows whether it may be repeated.
4. Who waits for another coordinator holds a thread of the server. PLACES bounds how many do: what others send must find a thread, or two
   coordinators would wait for each other with all they have. For the same reason a request that was forwarded never parks.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import quote, unquote

import falcon
import orjson
from falcon import Request, Response

from api import bodies, errors, request_ids
from api.parts import Parts
from skyclaw.errors import NotOwner, Unavailable, Unknown, UnknownJob, UnknownService
from skyclaw.ids import SERVICE_ID
from skyclaw.outside.peer_channel import PeerSilent, Reply
from skyclaw.scheduling.books import TAG

logger = logging.getLogger(__name__)

TRIED, HOME, LIFE, KEY = "x-skyclaw-tried", "x-skyclaw-home", "x-skyclaw-life", "x-idempotency-key"
PASSED_ON = ("content-type", KEY, HOME)
GIVEN_BACK = ("retry-after", "x-skyclaw-position", "x-skyclaw-stale")
MOST_TRIED = 3
PLACES = 16
PATIENCE_S, STEP_S = 2.0, 0.05  # until there is an owner
ANSWER_S = 6.0  # more than the owner itself takes to say that it does not know
ASIDE_S = 2.0  # for what is told to others beside the answer
AGAIN = "skyclaw.again"  # in the environment of a request that is done once more in this process


class OwnerUnknown(Unavailable):
    """The coordinator that decides for this cannot be reached; try again."""

    code = "owner_unknown"


def tried(req: Request) -> tuple[str, ...]:
    """The ids of the coordinators that have had this request; empty when it came from its client."""
    return tuple(unquote(name) for name in req.env.get("HTTP_X_SKYCLAW_TRIED", "").split(",") if name)


@dataclass(frozen=True, slots=True)
class Passing:
    """A request to be passed on: the one that came, or one that is made for the occasion and has no key then."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    tried: tuple[str, ...]

    @classmethod
    def of(cls, req: Request, resp: Response) -> "Passing":
        """The request that came."""
        headers = {name: value for name in PASSED_ON if (value := req.get_header(name)) is not None}
        headers[request_ids.HEADER] = request_ids.give(req, resp)
        return cls(req.method, req.env.get("REQUEST_URI") or req.relative_uri, headers, bodies.received(req), tried(req))

    def instead(self, body: Any, target: str | None = None, **more: str) -> "Passing":
        """Another POST on behalf of this one; the names of further headers with `_` for `-`."""
        headers = {name: value for name, value in self.headers.items() if name != KEY}
        headers |= {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in more.items()}
        return Passing("POST", target or self.target, headers, json.dumps(body).encode(), self.tried)

    def unkeyed(self) -> "Passing":
        """The same, as something that has an effect at each coordinator."""
        headers = {name: value for name, value in self.headers.items() if name != KEY}
        return Passing(self.method, self.target, headers, self.body, self.tried)


class Forwarding:
    """Passes requests on to the other coordinators."""

    def __init__(self, parts: Parts) -> None:
        self._cluster, self._homeless = parts.cluster, parts.log is None
        self._places = threading.BoundedSemaphore(PLACES)
        self._helpers = ThreadPoolExecutor(PLACES, thread_name_prefix="forwarding")
        self._app: Callable[..., Iterable[bytes]] | None = None

    def register(self, app: falcon.App[Request, Response]) -> None:
        """Let every NotOwner of the app become the owner's answer, and nothing be unknown that others may know."""
        self._app = app
        app.add_error_handler(NotOwner, self._pass_on)
        app.add_error_handler(Unknown, self._unknown)

    # One request, one owner

    def send(self, passing: Passing, node: str, timeout_s: float = ANSWER_S) -> Reply:
        """What another coordinator says to this; raises PeerSilent, and Unavailable when too many wait already."""
        with self._place():
            return self._send(passing, node, timeout_s)

    def _send(self, passing: Passing, node: str, timeout_s: float) -> Reply:
        had_it = ",".join(quote(name, safe="#:@") for name in self._had_it(passing))
        return self._cluster.forward(node, passing.method, passing.target, {**passing.headers, TRIED: had_it}, passing.body, timeout_s)

    def _had_it(self, passing: Passing) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*passing.tried, self._cluster.node)))

    def _pass_on(self, req: Request, resp: Response, error: NotOwner, params: dict[str, Any]) -> None:
        again = req.env.get(AGAIN)
        if again is not None:
            again.append(error)
            return
        try:
            with self._place():
                reply = self._owners_answer(req, resp, error)
        except Unavailable as failure:
            errors.refused(req, resp, failure, params)
        else:
            give_back(resp, reply)

    def _unknown(self, req: Request, resp: Response, error: Unknown, params: dict[str, Any]) -> None:
        """That a job or a service does not exist only its log's owner can say; anything else whoever knows all that the others know."""
        log = _log_of(error, params)
        owner = self._cluster.owner(log) if log is not None else None
        if log is not None and owner != self._cluster.node and (owner is not None or log in self._cluster.logs()):
            self._pass_on(req, resp, NotOwner(log), params)
        elif owner == self._cluster.node or self._cluster.ready:
            errors.refused(req, resp, error, params)
        else:
            errors.refused(
                req, resp, Unavailable(f"{error}, as far as this coordinator knows, which is behind the others; try again"), params
            )

    def _owners_answer(self, req: Request, resp: Response, error: NotOwner) -> Reply:
        passing = Passing.of(req, resp)
        had_it, ends = self._had_it(passing), time.monotonic() + PATIENCE_S
        while len(had_it) <= MOST_TRIED:
            reply = None
            owner = self._owner_of(error.log, had_it)
            if owner == self._cluster.node:
                reply = self._do_here(req, error)
            elif owner is not None and owner not in had_it:
                reply = self._try_owner(passing, error, owner)
            if reply is not None:
                return reply
            if time.monotonic() >= ends:
                break
            time.sleep(STEP_S)
        raise OwnerUnknown(f"the coordinator that decides for log {error.log} is not known now; try again", {"log": error.log})

    def _owner_of(self, log: str, had_it: tuple[str, ...]) -> str | None:
        """Who decides for a log; for what belongs to no log, a witness has to ask anybody who decides for one."""
        owner = self._cluster.owner(log)
        if owner is None and self._homeless and log not in self._cluster.logs():
            owners = filter(None, map(self._cluster.owner, self._cluster.logs()))
            return next((other for other in owners if other not in had_it), None)
        return owner

    def _try_owner(self, passing: Passing, error: NotOwner, owner: str) -> Reply | None:
        """Its answer; None when it certainly has not heard."""
        if error.home is not None:
            passing = Passing(passing.method, passing.target, {**passing.headers, HOME: error.home}, passing.body, passing.tried)
        try:
            return self._send(passing, owner, ANSWER_S - len(passing.tried))
        except PeerSilent as silence:
            logger.debug("not_forwarded to=%s log=%s sent=%s cause=%s", owner, error.log, silence.sent, silence)
            if silence.sent and passing.method != "GET":
                sentence = f"the coordinator that decides for log {error.log} did not answer; repeat it with the same idempotency key"
                raise OwnerUnknown(sentence, {"log": error.log, "written": "unknown"}) from None
            return None

    def _do_here(self, req: Request, error: NotOwner) -> Reply | None:
        """The answer of this process, which has become the owner; None when it is not quite yet, or no more."""
        assert self._app is not None
        again: list[NotOwner] = []
        said: list[tuple[str, list[tuple[str, str]]]] = []
        env = {**req.env, "wsgi.input": BytesIO(bodies.received(req)), AGAIN: again}
        if error.home is not None:
            env["HTTP_X_SKYCLAW_HOME"] = error.home
        body = b"".join(self._app(env, lambda status, headers, *_: said.append((status, headers))))
        if again:
            return None
        status, headers = said[0]
        return Reply(int(status[:3]), {name.lower(): value for name, value in headers}, body)

    # One request, several coordinators

    def tell_owners(self, passing: Passing, logs: Iterable[str], timeout_s: float = ASIDE_S) -> dict[str, dict[str, Any] | None]:
        """What the owners of these logs say, by log, when they accept it; None where nothing, or nothing good, came back in time."""
        owners = {log: self._cluster.owner(log) for log in logs}
        had_it = self._had_it(passing)
        nodes = {owner: passing for owner in owners.values() if owner is not None and owner not in had_it}
        said = self.tell(nodes, timeout_s)
        return {log: said.get(owner) if owner is not None else None for log, owner in owners.items()}

    def tell(self, requests: Mapping[str, Passing], timeout_s: float = ASIDE_S) -> dict[str, dict[str, Any] | None]:
        """What each of these coordinators says to its request, asked at the same time; None as in `tell_owners`."""
        said: dict[str, dict[str, Any] | None] = dict.fromkeys(requests)
        try:
            with self._place():
                under_way = {self._helpers.submit(self._send, passing, node, timeout_s): node for node, passing in requests.items()}
                done, late = wait(under_way, timeout_s + 0.5)
        except Unavailable:
            return said
        for future in late:
            future.cancel()
        for future in done:
            said[under_way[future]] = accepted(future.result)
        return said

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unavailable("too many requests wait for other coordinators; try again")
        try:
            yield
        finally:
            self._places.release()


def _log_of(error: Unknown, params: Mapping[str, Any]) -> str | None:
    """The log of what the request's path names by its id, when that is what is unknown."""
    if isinstance(error, UnknownJob) and "job_id" in params:
        log: str = params["job_id"][TAG]
        return log
    service = params.get("service")
    return service[TAG] if isinstance(error, UnknownService) and service is not None and SERVICE_ID.fullmatch(service) else None


def give_back(resp: Response, reply: Reply) -> None:
    """Answer as another coordinator did."""
    resp.status = reply.status
    resp.data = reply.body
    resp.content_type = reply.headers.get("content-type", "")
    for name in GIVEN_BACK:
        resp.delete_header(name)
        if name in reply.headers:
            resp.set_header(name, reply.headers[name])


def accepted(ask: Callable[[], Reply]) -> dict[str, Any] | None:
    """The JSON object of an answer, if there is one and it is no refusal."""
    try:
        reply = ask()
        said = orjson.loads(reply.body) if reply.status == 200 else None
    except (PeerSilent, orjson.JSONDecodeError) as cause:
        logger.info("nothing_said cause=%s", cause)
        return None
    return said if isinstance(said, dict) else None
