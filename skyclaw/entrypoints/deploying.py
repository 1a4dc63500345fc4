"""`skyclaw deploy-service`: a command that listens on $PORT becomes a service, with the folder it needs when one is given."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import option_values, rendering
from skyclaw.entrypoints.rollout import follow
from skyclaw.entrypoints.services import MOST_REPLICAS
from skyclaw.entrypoints.session import Session
from skyclaw.errors import UsageWrong

LONGEST_MS = 600_000
SECOND_MS = 1_000


def deploy_service(session: Session, words: Sequence[str], **options: Any) -> int:
    """Deploy it and print its id alone; with `wait`, exit when it serves (0) or has failed (1)."""
    body = request(words, options)
    if "bundle" in options:
        body["bundle"] = _bundle(session, options["bundle"])
    service = session.coordinators.post("/v1/services", body, key=uuid.uuid4().hex)["service"]
    as_json, wait = bool(options.get("json")), bool(options.get("wait"))
    if not as_json:
        rendering.show(rendering.safe_line(service["id"]))
        rendering.finish()
    elif not wait:
        rendering.show_json(service)
    return follow(session, service, as_json) if wait else 0


def request(words: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /v1/services, without the bundle; what was not given is left out, an empty text unsets. Raises UsageWrong."""
    name, command, *args = words
    if command.startswith("-"):
        raise UsageWrong(f"deploy-service: {command} stands where the command is expected; options stand before the name {name}")
    body: dict[str, Any] = {"name": name, "command": command, "args": args}
    if "cap" in options:
        body["requiredCapabilities"] = option_values.capabilities("cap", ["service-host", *options["cap"]])
    if "replicas" in options:
        body["replicas"] = option_values.whole("replicas", options["replicas"], 1, MOST_REPLICAS)
    if "cwd" in options:
        body["cwd"] = options["cwd"]
    if "env" in options:
        body["env"] = option_values.pairs("env", options["env"])
    if "drain" in options:
        body["drainMs"] = option_values.duration_ms("drain", options["drain"], 0, LONGEST_MS)
    if health := _health(options):
        body["health"] = health
    return body


def _bundle(session: Session, folder: str) -> str:
    """The hash of the folder, which is sent; nothing for none."""
    if not folder:
        return ""
    from skyclaw.entrypoints.bundling import sent

    return sent(session, folder)


def _health(options: Mapping[str, Any]) -> dict[str, Any]:
    health: dict[str, Any] = {}
    if "health_path" in options:
        if options["health_path"] and not options["health_path"].startswith("/"):
            raise UsageWrong(f"--health-path={options['health_path']} must begin with /")
        health["path"] = options["health_path"]
    if "health_timeout" in options:
        health["timeoutMs"] = option_values.duration_ms("health-timeout", options["health_timeout"], SECOND_MS, LONGEST_MS)
    return health
