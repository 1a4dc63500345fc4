"""How much an answer that was read from a copy is worth."""

from typing import Any

from falcon import Request, Response

from api.parts import Cluster
from skyclaw.ids import SERVICE_ID
from skyclaw.scheduling.books import TAG

STALE, POSITION = "x-skyclaw-stale", "x-skyclaw-position"


class Copies:
    """Middleware that tells readers how old what they read may be: the position of its log, and whether more is known elsewhere."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def process_resource(self, req: Request, resp: Response, _resource: object, params: dict[str, Any]) -> None:
        """The position is taken before anything is read, so that what is read is at least as new."""
        if req.method != "GET" or not req.path.startswith("/v1/"):
            return
        if not self._cluster.ready:
            resp.set_header(STALE, "true")
        service = params.get("service")
        named = params.get("job_id") or (service if service is not None and SERVICE_ID.fullmatch(service) else None)
        if named is not None:
            log = named[TAG]
            position = self._cluster.committed(log)
            if position is not None:
                resp.set_header(POSITION, f"{log}:{position}")
