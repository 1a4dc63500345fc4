"""What the environment says, read once by each role into a frozen dataclass.

The functions take the environment as a mapping; the entry point hands in its own. A wrong value raises SettingsWrong, one sentence that
names the variable; what is allowed but looks like a mistake is a sentence in `warnings`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from skyclaw.entrypoints import dev_file
from skyclaw.entrypoints.peer_settings import PeerSettings, announced, announcing_warning, peer_settings
from skyclaw.entrypoints.setting_names import unknown_names
from skyclaw.entrypoints.setting_values import Environment, is_loopback
from skyclaw.entrypoints.token_settings import guessable, read_tokens
from skyclaw.errors import SettingsWrong

DAY_MS = 86_400_000
MOST_BUNDLE_BYTES = 1 << 30
IN_MEMORY = "memory://"  # the database that is gone with its process
NOTHING_ALLOWED = "SKYCLAW_ALLOWED_COMMANDS is empty: this host refuses every job"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a command needs to reach its coordinators; `source` says where the addresses are from."""

    home: Path
    urls: tuple[str, ...]
    token: str | None = field(repr=False)
    source: str = "environment"  # environment | default | dev
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """What a coordinator needs; times are milliseconds. `database_url` is None or `memory://`, which wins over `db_path`."""

    home: Path
    host: str
    port: int
    tokens: tuple[str, ...] = field(repr=False)
    lease_ms: int
    service_lease_ms: int
    max_bundle_bytes: int
    db_path: Path
    database_url: str | None = field(repr=False)
    node_id: str | None
    public_url: str | None
    idempotency_ttl_ms: int
    max_queued_jobs: int
    min_replications: int | None
    one_cpu: bool
    peers: PeerSettings
    log: str
    warnings: tuple[str, ...] = ()

    def announced(self, port: int) -> str | None:
        """The address that other coordinators are told when this one listens on that port; None when there is none to tell."""
        return announced(self.peers, self.host, port, self.public_url)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What a host needs; times are milliseconds, `max_output_bytes` is for each of a job's two streams, `services` 0 when it runs none."""

    home: Path
    urls: tuple[str, ...]
    token: str | None = field(repr=False)
    host_id: str | None
    name: str
    capabilities: tuple[str, ...]
    allowed_commands: tuple[str, ...]
    max_parallel: int
    poll_ms: int
    heartbeat_ms: int
    timeout_ms: int
    max_timeout_ms: int
    max_output_bytes: int
    openclaw_command: str
    automaton_command: str
    grace_ms: int
    work_roots: tuple[Path, ...]
    job_user: str | None
    isolation: str
    services: int
    service_base_port: int
    service_base_url: str | None
    log: str
    warnings: tuple[str, ...] = ()


def debug(environ: Mapping[str, str]) -> bool:
    """Whether the traceback of an unexpected error is to be shown."""
    return bool(Environment(environ).read("SKYCLAW_DEBUG", "boolean"))


def home(environ: Mapping[str, str]) -> Path:
    """The folder for what Skyclaw keeps outside of the database."""
    text = environ.get("SKYCLAW_HOME", "").strip() or "~/.skyclaw"
    own = environ.get("HOME") or str(Path.home())
    return Path(own + text[1:]) if text == "~" or text.startswith("~/") else Path(text)


def client_settings(environ: Mapping[str, str]) -> ClientSettings:
    """Where a command sends its requests: what the environment says, else a running dev, else this machine's default port."""
    env = Environment(environ)
    _check_trust(env)
    given, (own, warnings) = _given_urls(env), _tokens(env)
    found = None if given else dev_file.living(home(environ))
    if found and own[:1] in ((), (found.token,)):
        return ClientSettings(home(environ), (found.url,), found.token, "dev", warnings)
    urls = given or (env.read("SKYCLAW_COORDINATOR_URL", "address"),)
    return ClientSettings(home(environ), urls, own[0] if own else None, "environment" if given else "default", warnings)


def coordinator_settings(environ: Mapping[str, str]) -> CoordinatorSettings:
    """What a coordinator is to be; raises SettingsWrong, also for an address that strangers could reach without a token."""
    env = Environment(environ)
    _check_trust(env)
    own, warnings = _tokens(env)
    host, public_url = _listen_on(env, own), env.read("SKYCLAW_COORDINATOR_PUBLIC_URL", "address")
    peers, of_peers = peer_settings(env)
    return CoordinatorSettings(
        home=home(environ),
        host=host,
        port=env.read("SKYCLAW_COORDINATOR_PORT", "whole", low=0, high=65_535),
        tokens=own,
        lease_ms=env.read("SKYCLAW_LEASE_MS", "whole", low=100, high=DAY_MS),
        service_lease_ms=env.read("SKYCLAW_SERVICE_LEASE_MS", "whole", low=500, high=DAY_MS),
        max_bundle_bytes=env.read("SKYCLAW_MAX_BUNDLE_BYTES", "whole", low=1_024, high=MOST_BUNDLE_BYTES),
        db_path=Path(env.read("SKYCLAW_DB_PATH", "name", longest=4_096)),
        database_url=_database_url(env),
        node_id=env.read("SKYCLAW_COORDINATOR_NODE_ID", "name"),
        public_url=public_url,
        idempotency_ttl_ms=env.read("SKYCLAW_IDEMPOTENCY_TTL_MS", "whole", low=1_000, high=365 * DAY_MS),
        max_queued_jobs=env.read("SKYCLAW_MAX_QUEUED_JOBS", "whole", low=1, high=100_000_000),
        min_replications=env.read("SKYCLAW_MIN_REPLICATIONS", "whole", low=1, high=64),
        one_cpu=bool(env.read("SKYCLAW_COORDINATOR_ONE_CPU", "boolean")),
        peers=peers,
        log=env.read("SKYCLAW_LOG", "choice", among=("text", "json")),
        warnings=(
            *warnings,
            *of_peers,
            *guessable(*own),
            *_public_url_warning(host, public_url),
            *announcing_warning(peers, host, public_url),
        ),
    )


def host_settings(environ: Mapping[str, str]) -> HostSettings:
    """What a host is to be; raises SettingsWrong."""
    env, client = Environment(environ), client_settings(environ)
    timeout_ms = env.read("SKYCLAW_TIMEOUT_MS", "whole", low=1, high=7 * DAY_MS)
    max_timeout_ms = env.read("SKYCLAW_MAX_TIMEOUT_MS", "whole", low=1, high=7 * DAY_MS)
    if timeout_ms > max_timeout_ms:
        raise SettingsWrong(f"SKYCLAW_TIMEOUT_MS={timeout_ms} must not be above SKYCLAW_MAX_TIMEOUT_MS={max_timeout_ms}")
    allowed = _allowed_commands(env)
    return HostSettings(
        home=client.home,
        urls=client.urls,
        token=client.token,
        host_id=env.read("SKYCLAW_HOST_ID", "identifier"),
        name=_host_name(env),
        capabilities=env.read("SKYCLAW_CAPABILITIES", "identifiers"),
        allowed_commands=allowed,
        max_parallel=env.read("SKYCLAW_MAX_PARALLEL", "whole", low=1, high=256),
        poll_ms=env.read("SKYCLAW_POLL_MS", "whole", low=1, high=DAY_MS),
        heartbeat_ms=env.read("SKYCLAW_HEARTBEAT_MS", "whole", low=10, high=DAY_MS),
        timeout_ms=timeout_ms,
        max_timeout_ms=max_timeout_ms,
        max_output_bytes=env.read("SKYCLAW_MAX_OUTPUT_BYTES", "whole", low=64, high=1_048_576),
        openclaw_command=env.read("SKYCLAW_OPENCLAW_COMMAND", "name", longest=4_096),
        automaton_command=env.read("SKYCLAW_AUTOMATON_COMMAND", "name", longest=4_096),
        grace_ms=env.read("SKYCLAW_GRACE_MS", "whole", low=0, high=DAY_MS),
        work_roots=env.read("SKYCLAW_WORK_ROOTS", "folders"),
        job_user=env.read("SKYCLAW_JOB_USER", "name"),
        isolation=env.read("SKYCLAW_ISOLATION", "choice", among=("auto", "none", "process")),
        services=_services(env),
        service_base_port=env.read("SKYCLAW_SERVICE_BASE_PORT", "whole", low=1, high=65_535),
        service_base_url=_service_base_url(env),
        log=env.read("SKYCLAW_LOG", "choice", among=("text", "json")),
        warnings=(*client.warnings, *guessable(client.token), *(() if allowed else (NOTHING_ALLOWED,))),
    )


def _check_trust(env: Environment) -> None:
    tier = env.given.get("SKYCLAW_TRUST", "").strip() or "private"
    if tier in ("approved", "open"):
        raise SettingsWrong(f"SKYCLAW_TRUST={tier} needs signed identities, which this version does not have; only private can be used")
    env.read("SKYCLAW_TRUST", "choice", among=("private",))


def _given_urls(env: Environment) -> tuple[str, ...]:
    several = env.read("SKYCLAW_COORDINATOR_URLS", "addresses") or ()
    if several or not env.present("SKYCLAW_COORDINATOR_URL"):
        return tuple(several)
    return (env.read("SKYCLAW_COORDINATOR_URL", "address"),)


def _tokens(env: Environment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The live tokens, and every warning that does not depend on the role."""
    found, warnings = read_tokens(env, "SKYCLAW_TOKEN")
    return found, (*unknown_names(env.given), *warnings)


def _listen_on(env: Environment, own: tuple[str, ...]) -> str:
    host: str = env.read("SKYCLAW_COORDINATOR_HOST", "name", longest=253) or ("0.0.0.0" if own else "127.0.0.1")  # noqa: S104 with a token
    if not own and not is_loopback(host):
        raise SettingsWrong(
            f"SKYCLAW_COORDINATOR_HOST={host} can be reached by others: set SKYCLAW_TOKEN or SKYCLAW_TOKEN_FILE, or listen on 127.0.0.1"
        )
    return host


def _database_url(env: Environment) -> str | None:
    url: str | None = env.read("SKYCLAW_DATABASE_URL", "name", longest=4_096)
    if url not in (None, IN_MEMORY):
        raise SettingsWrong(f"SKYCLAW_DATABASE_URL names a database that this version cannot use: set SKYCLAW_DB_PATH, or {IN_MEMORY}")
    return url


def _public_url_warning(host: str, public_url: str | None) -> tuple[str, ...]:
    if public_url and not is_loopback(host) and is_loopback(urlsplit(public_url).hostname or ""):
        return (f"SKYCLAW_COORDINATOR_PUBLIC_URL={public_url} is this machine only, while the coordinator listens on {host}",)
    return ()


def _allowed_commands(env: Environment) -> tuple[str, ...]:
    allowed: tuple[str, ...] = env.read("SKYCLAW_ALLOWED_COMMANDS", "words")
    if "*" in allowed:
        raise SettingsWrong("SKYCLAW_ALLOWED_COMMANDS=* is not possible: name each command that jobs may run here")
    return allowed


def _services(env: Environment) -> int:
    """How many instances of services the host takes."""
    most: int = env.read("SKYCLAW_SERVICE_MAX", "whole", low=0, high=256)
    return most if env.read("SKYCLAW_SERVICE_HOST_ENABLED", "boolean") else 0


def _service_base_url(env: Environment) -> str | None:
    url: str | None = env.read("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", "address")
    if url is not None and (urlsplit(url).port is not None or urlsplit(url).path):
        raise SettingsWrong(f"SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL={url} must have no port and no path: each service has a port of its own")
    return url


def _host_name(env: Environment) -> str:
    given = env.read("SKYCLAW_HOST_NAME", "name")
    return given if env.present("SKYCLAW_HOST_NAME") else f"openclaw-node-{os.getpid()}"
