"""What the environment says about a gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skyclaw.entrypoints.peer_settings import ca_file
from skyclaw.entrypoints.setting_names import KNOWN
from skyclaw.entrypoints.setting_values import Environment
from skyclaw.entrypoints.settings import DAY_MS, client_settings
from skyclaw.entrypoints.token_settings import read_tokens
from skyclaw.outside.upstream_limits import GatewayLimits

MOST_AT_ONCE = GatewayLimits().at_once
LEAST_PROBE_TIMEOUT_MS = 500
LEAST_COOLDOWN_MS = 1_000


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What a gateway needs; times are milliseconds, `retries` counts the further backends that a safe request is tried on."""

    urls: tuple[str, ...]
    tokens: tuple[str, ...] = field(repr=False)  # the first one is shown to coordinators, none may reach a service
    host: str
    port: int
    workers: int
    one_cpu: bool
    refresh_ms: int
    probe_ms: int
    health_path: str
    probe_timeout_ms: int
    retries: int
    cooldown_ms: int
    answer_ms: int
    per_instance: int
    per_service: int
    ca_file: Path | None
    log: str
    warnings: tuple[str, ...] = ()

    @property
    def own_health_path(self) -> str | None:
        """The path that every backend has to know, because somebody set it; None for the usual one, which a service may lack."""
        return None if self.health_path == KNOWN["SKYCLAW_GATEWAY_HEALTH_PATH"].default else self.health_path


def gateway_settings(environ: Mapping[str, str]) -> GatewaySettings:
    """What a gateway is to be; raises SettingsWrong."""
    env, client = Environment(environ), client_settings(environ)
    probe_timeout_ms, of_timeout = _at_least(env, "SKYCLAW_GATEWAY_HEALTH_TIMEOUT_MS", LEAST_PROBE_TIMEOUT_MS)
    cooldown_ms, of_cooldown = _at_least(env, "SKYCLAW_GATEWAY_UNHEALTHY_COOLDOWN_MS", LEAST_COOLDOWN_MS)
    return GatewaySettings(
        urls=client.urls,
        tokens=tuple(dict.fromkeys(token for token in (client.token, *read_tokens(env, "SKYCLAW_TOKEN")[0]) if token)),
        host=env.read("SKYCLAW_GATEWAY_HOST", "name", longest=253),
        port=env.read("SKYCLAW_GATEWAY_PORT", "whole", low=0, high=65_535),
        workers=env.read("SKYCLAW_GATEWAY_WORKERS", "whole", low=1, high=64),
        one_cpu=bool(env.read("SKYCLAW_GATEWAY_ONE_CPU", "boolean")),
        refresh_ms=env.read("SKYCLAW_GATEWAY_REFRESH_MS", "whole", low=10, high=DAY_MS),
        probe_ms=env.read("SKYCLAW_GATEWAY_HEALTH_PROBE_MS", "whole", low=10, high=DAY_MS),
        health_path=env.read("SKYCLAW_GATEWAY_HEALTH_PATH", "http_path"),
        probe_timeout_ms=probe_timeout_ms,
        retries=env.read("SKYCLAW_GATEWAY_RETRY_ATTEMPTS", "whole", low=0, high=10),
        cooldown_ms=cooldown_ms,
        answer_ms=env.read("SKYCLAW_GATEWAY_ANSWER_MS", "whole", low=100, high=DAY_MS),
        per_instance=env.read("SKYCLAW_GATEWAY_MAX_PER_INSTANCE", "whole", low=1, high=MOST_AT_ONCE),
        per_service=env.read("SKYCLAW_GATEWAY_MAX_PER_SERVICE", "whole", low=1, high=MOST_AT_ONCE),
        ca_file=ca_file(env),
        log=env.read("SKYCLAW_LOG", "choice", among=("text", "json")),
        warnings=(*client.warnings, *of_timeout, *of_cooldown),
    )


def _at_least(env: Environment, name: str, least: int) -> tuple[int, tuple[str, ...]]:
    """A time (ms) that is raised to the least one, and the warning that says so."""
    given: int = env.read(name, "whole", low=1, high=DAY_MS)
    return max(least, given), (f"{name}={given} is taken as {least}, the least there is",) if given < least else ()
