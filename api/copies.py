"""How much an answer that was read from a copy is worth."""

from typing import Any

from falcon import Request, Response

from api.parts import Cluster
from skyclaw.scheduling.books import TAG

STALE, POSITION = "x-skyclaw-stale", "x-skyclaw-position"


class Copies:
    """Middleware that tells readers how old what they read may be: the position of the job's log, and whether more is known elsewhere."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def process_resource(self, req: Request, resp: Response, _resource: object, params: dict[str, Any]) -> None:
        """The position is taken before anything is read, so that what is read is at least as new."""
        if req.method != "GET" or not req.path.startswith("/v1/"):
            return
        if not self._cluster.ready:
            resp.set_header(STALE, "true")
        if "job_id" in params:
            log = params["job_id"][TAG]
            position = self._cluster.committed(log)
            if position is not None:
                resp.set_header(POSITION, f"{log}:{position}")
