"""GET /health: open to everybody, so it says how the coordinator is and nothing about what it does."""

from falcon import Request, Response

from api.parts import Parts
from api.views import dump
from skyclaw import __version__


class Health:
    """/health."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, _req: Request, resp: Response) -> None:
        """200 while every required actor lives, 503 otherwise; the body is the same."""
        seen = self._parts.health()
        view = {
            "ok": seen.ok,
            "nodeId": self._parts.node,
            "log": self._parts.log,
            "ready": seen.ready,
            "degraded": seen.degraded,
            "version": __version__,
        }
        if seen.actors:
            view["actors"] = dict(seen.actors)
        resp.status = 200 if seen.ok else 503
        resp.data = dump(view)
