"""/v1/services, for those who want services: deploy, watch, scale, stop, restart, roll back, remove."""

from collections.abc import Callable

from falcon import Request, Response

from api import bodies, queries
from api.idempotency import keyed
from api.parts import Parts
from api.schemas import Closed, EmptyRequest
from api.service_schemas import DeployRequest
from api.service_views import ServiceViews, event, explanation
from api.views import View, dump
from skyclaw.answers import Repeated, ServiceExplained, ServiceSeen, ServicesSeen
from skyclaw.commands import Command, Deploy, ExplainService, FindService, ListServices, RemoveService
from skyclaw.errors import UnknownBundle, UnknownService
from skyclaw.scheduling.books import TAG
from skyclaw.services.service import Service

DEPLOY, EMPTY = DeployRequest(), EmptyRequest()
MAX_EVENTS, DEFAULT_EVENTS, LONGEST = 1_000, 1_000, 2**53


class ServiceAnswers:
    """Asks for changes, and shows the service that they were made to."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._archive, self._views = parts.desk, parts.archive, ServiceViews(parts.node)

    def one(self, command: Command) -> View:
        """`{service}`; of a request that was answered before, as the service was then. Raises refusals."""
        answer: ServiceSeen | Repeated = self._desk.ask(command)
        service = self._stored(answer) if isinstance(answer, Repeated) else answer.service
        return {"service": self._views.record(service)}

    def _stored(self, answer: Repeated) -> Service:
        [service_id] = answer.subjects
        found = self._archive.service(service_id, answer.seq)
        if found is None:
            raise UnknownService(f"unknown service: {service_id}")
        return found


class Services:
    """/v1/services."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._views, self._answers, self._bundles = parts.desk, ServiceViews(parts.node), ServiceAnswers(parts), parts.bundles

    def on_get(self, _req: Request, resp: Response) -> None:
        """All services, the oldest first."""
        known: ServicesSeen = self._desk.ask(ListServices())
        resp.data = dump({"services": [self._views.record(service) for service in known.services]})

    def on_post(self, req: Request, resp: Response) -> None:
        """Make a service, or give it a new revision."""
        body = bodies.read(req)
        asked = DEPLOY.read(body)
        health_path, health_timeout_ms = asked.pop("health")
        if asked["bundle"]:
            self._require_bundle(asked["bundle"])
        command = Deploy(**asked, health_path=health_path, health_timeout_ms=health_timeout_ms, keyed=keyed(req, body))
        resp.data = dump(self._answers.one(command))

    def _require_bundle(self, sha256: str) -> None:
        """Fetch it where it is not, also for a request that was passed on: whoever passed it on has the bundle."""
        if self._bundles is None:
            raise UnknownBundle(f"unknown bundle: {sha256}")
        self._bundles.require(sha256)


class OneService:
    """/v1/services/{service}."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._views, self._answers = parts.desk, ServiceViews(parts.node), ServiceAnswers(parts)

    def on_get(self, _req: Request, resp: Response, service: str) -> None:
        """The service with its revisions."""
        try:
            seen: ServiceSeen = self._desk.ask(FindService(service))
        except UnknownService:
            raise UnknownService("service not found") from None  # the words that programs of the TypeScript version know
        resp.data = dump({"service": self._views.detailed(seen.service)})

    def on_delete(self, req: Request, resp: Response, service: str) -> None:
        """Want it no more."""
        body = bodies.read(req)
        EMPTY.read(body)
        resp.data = dump(self._answers.one(RemoveService(service, keyed=keyed(req, body))))


class ServiceOrder:
    """/v1/services/{service}/scale, /stop, /restart and /rollback."""

    def __init__(self, parts: Parts, order: Callable[..., Command], schema: Closed = EMPTY) -> None:
        self._answers, self._order, self._schema = ServiceAnswers(parts), order, schema

    def on_post(self, req: Request, resp: Response, service: str) -> None:
        """Give the order."""
        body = bodies.read(req)
        asked = self._schema.read(body)
        resp.data = dump(self._answers.one(self._order(service, **asked, keyed=keyed(req, body))))


class ServiceExplanation:
    """/v1/services/{service}/explain."""

    def __init__(self, parts: Parts) -> None:
        self._desk = parts.desk

    def on_get(self, _req: Request, resp: Response, service: str) -> None:
        """Why the service is as it is, host by host."""
        said: ServiceExplained = self._desk.ask(ExplainService(service))
        resp.data = dump(explanation(said))


class ServiceEvents:
    """/v1/services/{service}/events."""

    def __init__(self, parts: Parts) -> None:
        self._desk, self._archive, self._cluster = parts.desk, parts.archive, parts.cluster

    def on_get(self, req: Request, resp: Response, service: str) -> None:
        """What happened to the service, oldest first, from the position `after` on; `next` is there when there is more."""
        limit = queries.whole(req, "limit", 1, MAX_EVENTS, DEFAULT_EVENTS)
        after = queries.whole(req, "after", 0, LONGEST, 0)
        seen: ServiceSeen = self._desk.ask(FindService(service))
        later = self._archive.events(seen.service.id, self._cluster.committed(seen.service.id[TAG]), after, limit + 1)
        view: View = {"events": [event(record) for record in later[:limit]]}
        if len(later) > limit:
            view["next"] = later[limit - 1].seq
        resp.data = dump(view)
