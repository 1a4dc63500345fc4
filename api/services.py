"""/v1/services, for clients and hosts that ask for services by default: this coordinator has none, and says so."""

import falcon
from falcon import Request, Response

from api import bodies
from api.parts import Parts
from api.schemas import EmptyRequest
from api.views import dump
from skyclaw.commands import FindHost

EMPTY = EmptyRequest()


class Services:
    """/v1/services."""

    def on_get(self, _req: Request, resp: Response) -> None:
        """All services."""
        resp.data = dump({"services": []})

    def on_post(self, _req: Request, _resp: Response) -> None:
        """A service cannot be created: as far as that goes, there is nothing here."""
        raise falcon.HTTPNotFound


class ServiceClaim:
    """/v1/hosts/{host_id}/services/claim."""

    def __init__(self, parts: Parts) -> None:
        self._desk = parts.desk

    def on_post(self, req: Request, resp: Response, host_id: str) -> None:
        """There is no service to be run by the host, which must be known."""
        EMPTY.read(bodies.read(req))
        self._desk.ask(FindHost(host_id))
        resp.data = dump({"service": None})
