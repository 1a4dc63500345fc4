"""The routes of services, as small as the command line needs them: give `script` to a ScriptedServer."""

import hashlib
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.entrypoints.small_coordinator import AT, SmallCoordinator, refusal
from tests.support.scripted_server import Asked, Reply

TAG = "aaaaaaaa"


class SmallServices:
    """`services` by id; `posted` is every accepted request that changes something, as (path, body, key)."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.posted: list[tuple[str, Any, str | None]] = []
        self.bundles: dict[str, bytes] = {}
        self.at_upload: Reply | None = None  # instead of taking a bundle
        self.tried_bundle = b""  # that was not taken
        self.at_change: Reply | None = None  # instead of changing a service
        self.output: list[list[dict[str, Any]]] = []  # the instances of one answer after the other
        self.reasons = ["no host takes part"]
        self.looks: list[dict[str, Any]] = []  # how the service has changed at each further look
        self.unheard = 0  # how often a service is looked for in vain
        self._others = SmallCoordinator()

    def add(self, name: str, own: str = "0000", **more: Any) -> dict[str, Any]:
        """A service that is there already."""
        service = {
            "id": f"svc_{TAG}-{own}-4000-8000-000000000000",
            "name": name,
            "command": "node",
            "args": ["server.js"],
            "replicas": 1,
            "requiredCapabilities": ["service-host"],
            "status": "running",
            "createdAt": AT,
            "updatedAt": AT,
            "updatedBy": "small",
            "version": 3,
            "assignments": [],
            "revision": 1,
            "goodRevision": 1,
            "rollout": {"revision": 1, "state": "succeeded"},
            "health": {"path": "/health", "timeoutMs": 30_000},
            "drainMs": 10_000,
            **more,
        }
        self.services[service["id"]] = service
        return service

    def script(self, asked: Asked) -> Reply:
        """The answer to one request."""
        parts = urlsplit(asked.path)
        path, query = [unquote(part) for part in parts.path.split("/")[1:]], dict(parse_qsl(parts.query))
        if path[:2] == ["v1", "bundles"]:
            return self._bundle(asked, path[2])
        if path[:2] != ["v1", "services"]:
            return self._others.script(asked)
        if asked.method in ("POST", "DELETE"):
            self.posted.append((parts.path, asked.json, asked.headers.get("x-idempotency-key")))
        if len(path) == 2:
            return self._deploy(asked.json) if asked.method == "POST" else Reply(say={"services": list(self.services.values())})
        found = [service for service in self.services.values() if path[2] in (service["id"], service["name"])]
        if not found:
            return refusal(404, "unknown_service", "service not found")
        return self._about(found[0], asked, path[3:], query)

    def _about(self, service: dict[str, Any], asked: Asked, more: list[str], query: dict[str, str]) -> Reply:
        if more == ["explain"]:
            return Reply(say={"service": {"id": service["id"], "name": service["name"]}, "reasons": self.reasons, "hosts": []})
        if more == ["log"]:
            cursor = int(query.get("after", 0))
            instances = self.output[cursor] if cursor < len(self.output) else []
            return Reply(say={"instances": instances, "next": str(min(cursor + 1, len(self.output)))})
        if asked.method == "GET" and self.unheard:
            self.unheard -= 1
            return refusal(404, "unknown_service", "service not found")
        if asked.method == "GET" and self.looks:
            service.update(self.looks.pop(0))
        if asked.method == "POST" and self.at_change is not None:
            return self.at_change
        if more == ["scale"]:
            service["replicas"] = asked.json["replicas"]
        return Reply(say={"service": service})

    def _deploy(self, body: dict[str, Any]) -> Reply:
        state: dict[str, Any] = {"status": "pending", "revision": 2, "rollout": {"revision": 2, "state": "rolling"}}
        wanted = {name: body[name] for name in ("command", "args")}
        return Reply(say={"service": self.add(body["name"], **wanted, **state)})

    def _bundle(self, asked: Asked, sha256: str) -> Reply:
        if asked.method == "PUT" and self.at_upload is not None:
            self.tried_bundle = asked.body
            return self.at_upload
        if asked.method == "PUT":
            assert hashlib.sha256(asked.body).hexdigest() == sha256
            self.bundles[sha256] = asked.body
        elif sha256 not in self.bundles:
            return Reply(404, raw=b"")
        return Reply(say={"bundle": {"sha256": sha256, "bytes": len(self.bundles[sha256])}}, raw=b"" if asked.method == "HEAD" else None)
