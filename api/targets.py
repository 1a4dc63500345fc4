"""What a request must look like before it is routed: one Host, a plain path, and ids of the right form in it."""

import re
from collections.abc import Mapping
from typing import Any

import falcon
from falcon import Request, Response

from api.errors import HttpRefused, shorten
from skyclaw.errors import UnknownBundle, UnknownHost, UnknownJob, UnknownService
from skyclaw.ids import JOB_ID

HOST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # a name or an id
SHA256 = re.compile(r"[0-9a-f]{64}")
NEVER = frozenset({"TRACE", "CONNECT"})
CONTROL = re.compile("[\x00-\x1f\x7f]")


def has_one_host(environ: Mapping[str, Any]) -> bool:
    """Does the request say for which host it is, and once? The server joins several by commas; HTTP/1.0 has none."""
    host = environ.get("HTTP_HOST", "")
    return not ("," in host or " " in host or "\t" in host or (not host and environ.get("SERVER_PROTOCOL") == "HTTP/1.1"))


class Targets:
    """Middleware that refuses misleading requests (RFC 9112, sections 3.2 and 3.3)."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Check method, Host and path."""
        env = req.env
        if req.method in NEVER:
            raise HttpRefused(405, "method_not_allowed", "method not allowed", {"Allow": "GET, POST"})
        if not has_one_host(env):
            raise HttpRefused(400, "bad_request", "a request has exactly one Host")
        target = env.get("REQUEST_URI", "/")
        if not target.startswith("/"):
            raise HttpRefused(400, "bad_request", "the request's target must be a path")
        if CONTROL.search(env["PATH_INFO"]) or ("%" in target and "%2f" in target.partition("?")[0].lower()):
            raise HttpRefused(400, "bad_path", "the path contains characters that no path of this API has")

    def process_resource(self, _req: Request, _resp: Response, _resource: object, params: dict[str, Any]) -> None:
        """What cannot be an id is unknown; nobody needs to look for it."""
        if "" in params.values():
            raise falcon.HTTPNotFound
        job_id, host_id = params.get("job_id"), params.get("host_id")
        if job_id is not None and not JOB_ID.fullmatch(job_id):
            raise UnknownJob(f"unknown job: {shorten(job_id)}")
        if host_id is not None and not HOST_ID.fullmatch(host_id):
            raise UnknownHost(f"unknown host: {shorten(host_id)}")
        service, sha256 = params.get("service"), params.get("sha256")
        if service is not None and not SERVICE.fullmatch(service):
            raise UnknownService(f"unknown service: {shorten(service)}")
        if sha256 is not None and not SHA256.fullmatch(sha256):
            raise UnknownBundle(f"unknown bundle: {shorten(sha256)}")
