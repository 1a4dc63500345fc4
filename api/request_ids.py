"""Every answer carries the id of its request: the client's own one when it is well formed, otherwise one that is drawn here."""

import os
import re

from falcon import Request, Response

HEADER = "x-request-id"
OWN = re.compile(r"[A-Za-z0-9._-]{1,64}")


def give(req: Request, resp: Response) -> str:
    """The request's id; the answer bears it from now on."""
    known = resp.get_header(HEADER)
    if known is not None:
        return known
    own = req.env.get("HTTP_X_REQUEST_ID", "")
    request_id = own if OWN.fullmatch(own) else os.urandom(8).hex()
    resp.set_header(HEADER, request_id)
    return request_id


class RequestIds:
    """Middleware: ids before anything else can go wrong, and the headers that are the same in all answers."""

    ALWAYS = (
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'"),
        ("cache-control", "no-store"),
    )

    def process_request(self, req: Request, resp: Response) -> None:
        """Name the request."""
        give(req, resp)

    def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:
        """Also for what was refused before it had a name."""
        give(req, resp)
        resp.set_headers(self.ALWAYS)
