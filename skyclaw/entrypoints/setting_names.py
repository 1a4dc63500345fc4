"""Every environment variable that Skyclaw knows, with its default and its meaning.

The one list behind the readers in `settings.py`, `skyclaw config`, the help, the warning about an unknown name and the table in the README.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

NOT_YET = "not yet"  # the role of a setting whose part is not in this version


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable; `default` is written as it would be typed, empty when there is none."""

    name: str
    default: str
    meaning: str
    role: str = "every"
    secret: bool = False

    @property
    def used(self) -> bool:
        """Whether this version reads it."""
        return self.role != NOT_YET


_TABLE = (
    Setting("SKYCLAW_HOME", "~/.skyclaw", "folder for what Skyclaw keeps outside of the database"),
    Setting("SKYCLAW_TOKEN", "", "shared token; `new,old` while it is exchanged; none: open, on this machine only", secret=True),
    Setting("SKYCLAW_TOKEN_FILE", "", "file that holds the token; preferred to SKYCLAW_TOKEN"),
    Setting("SKYCLAW_TRUST", "private", "who may join: private (everybody who knows the token)"),
    Setting("SKYCLAW_LOG", "text", "form of a process's log lines: text or json"),
    Setting("SKYCLAW_DEBUG", "0", "show the traceback of an unexpected error"),
    Setting("SKYCLAW_COORDINATOR_URLS", "", "comma list of coordinators, tried in turn", "client"),
    Setting("SKYCLAW_COORDINATOR_URL", "http://127.0.0.1:8787", "the coordinator, when SKYCLAW_COORDINATOR_URLS is not set", "client"),
    Setting("SKYCLAW_COORDINATOR_HOST", "", "address to listen on; 0.0.0.0 with a token, 127.0.0.1 without", "coordinator"),
    Setting("SKYCLAW_COORDINATOR_PORT", "8787", "port to listen on; 0 takes a free one", "coordinator"),
    Setting("SKYCLAW_COORDINATOR_NODE_ID", "", "name of this coordinator in answers and logs", "coordinator"),
    Setting("SKYCLAW_COORDINATOR_PUBLIC_URL", "", "address under which others reach this coordinator", "coordinator"),
    Setting("SKYCLAW_DB_PATH", ".skyclaw/coordinator.db", "SQLite file; its folder is made when missing", "coordinator"),
    Setting(
        "SKYCLAW_DATABASE_URL", "", "memory:// keeps the queue in memory alone, instead of in SKYCLAW_DB_PATH", "coordinator", secret=True
    ),
    Setting("SKYCLAW_COORDINATOR_ONE_CPU", "1", "stay on one CPU, which is faster; 0 leaves it to the system", "coordinator"),
    Setting("SKYCLAW_LEASE_MS", "60000", "how long a claimed job stays with a host that is not heard of", "coordinator"),
    Setting("SKYCLAW_SERVICE_LEASE_MS", "15000", "how long an instance of a service stays with a host that is not heard of", "coordinator"),
    Setting("SKYCLAW_MAX_BUNDLE_BYTES", "67108864", "largest packed directory that a service may bring", "coordinator"),
    Setting("SKYCLAW_IDEMPOTENCY_TTL_MS", "86400000", "how long an idempotency key is remembered", "coordinator"),
    Setting("SKYCLAW_MAX_QUEUED_JOBS", "1000000", "jobs that may wait; more are answered 429", "coordinator"),
    Setting(
        "SKYCLAW_MIN_REPLICATIONS",
        "",
        "copies that must hold a write, this one included; not set: 1, and 2 once three coordinators are level",
        "coordinator",
    ),
    Setting("SKYCLAW_PEER_URLS", "", "comma list of other coordinators", "coordinator"),
    Setting("SKYCLAW_PEER_SYNC_MS", "3000", "time between two exchanges with another coordinator", "coordinator"),
    Setting("SKYCLAW_PEER_HEARTBEAT_MS", "1000", "time between two signs of life of a log's owner", "coordinator"),
    Setting("SKYCLAW_PEER_DISCOVERY", "1", "whether to learn of further coordinators from those that are known", "coordinator"),
    Setting(
        "SKYCLAW_PEER_CIDRS",
        "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
        "comma list of private networks in which others may announce coordinators",
        "coordinator",
    ),
    Setting("SKYCLAW_PEER_TOKEN", "", "token of the coordinators alone, instead of the shared one", "coordinator", secret=True),
    Setting("SKYCLAW_PEER_TOKEN_FILE", "", "file that holds it; preferred to SKYCLAW_PEER_TOKEN", "coordinator"),
    Setting(
        "SKYCLAW_CA_FILE",
        "",
        "authorities to trust for https to other coordinators and to services, instead of the system's",
        "coordinator",
    ),
    Setting("SKYCLAW_WITNESS", "0", "whether this coordinator only votes: it keeps copies, and has no jobs of its own", "coordinator"),
    Setting("SKYCLAW_HOST_NAME", "openclaw-node-<pid>", "name of this host", "host"),
    Setting("SKYCLAW_HOST_ID", "", "id of this host; given by the coordinator when not set", "host"),
    Setting("SKYCLAW_CAPABILITIES", "shell,openclaw,service-host", "comma list of what this host can do", "host"),
    Setting("SKYCLAW_ALLOWED_COMMANDS", "openclaw,node,bash,sh,npm,pnpm", "comma list of commands that jobs may run here", "host"),
    Setting("SKYCLAW_MAX_PARALLEL", "1", "jobs at a time, 1 to 256", "host"),
    Setting("SKYCLAW_POLL_MS", "2000", "pause before the next attempt after an empty or failed claim", "host"),
    Setting("SKYCLAW_HEARTBEAT_MS", "5000", "time between two heartbeats", "host"),
    Setting("SKYCLAW_TIMEOUT_MS", "300000", "time limit of a job that brings none", "host"),
    Setting("SKYCLAW_MAX_TIMEOUT_MS", "3600000", "longest time limit that a job may bring", "host"),
    Setting("SKYCLAW_MAX_OUTPUT_BYTES", "128000", "bytes kept of each output stream of a job", "host"),
    Setting("SKYCLAW_GRACE_MS", "30000", "time that running jobs get to finish when the host is stopped", "host"),
    Setting("SKYCLAW_OPENCLAW_COMMAND", "openclaw", "program of openclaw jobs", "host"),
    Setting("SKYCLAW_AUTOMATON_COMMAND", "automaton", "program of automaton jobs", "host"),
    Setting("SKYCLAW_WORK_ROOTS", "", "comma list of absolute folders below which a job may choose its folder", "host"),
    Setting("SKYCLAW_JOB_USER", "", "user that jobs run as when the host runs as root", "host"),
    Setting("SKYCLAW_ISOLATION", "auto", "how jobs are fenced in: auto, none or process", "host"),
    Setting("SKYCLAW_GATEWAY_HOST", "0.0.0.0", "address the gateway listens on", "gateway"),  # noqa: S104 only a text
    Setting("SKYCLAW_GATEWAY_PORT", "8790", "port the gateway listens on; 0 takes a free one", "gateway"),
    Setting("SKYCLAW_GATEWAY_WORKERS", "1", "processes that share the gateway's port, 1 to 64", "gateway"),
    Setting("SKYCLAW_GATEWAY_ONE_CPU", "1", "keep each worker on one CPU, which is faster; 0 leaves it to the system", "gateway"),
    Setting("SKYCLAW_GATEWAY_REFRESH_MS", "3000", "time between two looks at the services", "gateway"),
    Setting("SKYCLAW_GATEWAY_HEALTH_PROBE_MS", "5000", "time between two probes of a backend", "gateway"),
    Setting("SKYCLAW_GATEWAY_HEALTH_PATH", "/health", "path that is probed where a service has no health path of its own", "gateway"),
    Setting("SKYCLAW_GATEWAY_HEALTH_TIMEOUT_MS", "1500", "time limit of a probe, at least 500", "gateway"),
    Setting("SKYCLAW_GATEWAY_RETRY_ATTEMPTS", "1", "further backends tried for a GET, HEAD or OPTIONS request, 0 to 10", "gateway"),
    Setting("SKYCLAW_GATEWAY_UNHEALTHY_COOLDOWN_MS", "10000", "how long a failed backend is left alone, at least 1000", "gateway"),
    Setting("SKYCLAW_GATEWAY_ANSWER_MS", "10000", "how long a service may take until its answer begins, all attempts together", "gateway"),
    Setting(
        "SKYCLAW_GATEWAY_MAX_PER_INSTANCE",
        "16",
        "requests at a time to one instance, of each worker; more go to the next one, or are answered 503",
        "gateway",
    ),
    Setting("SKYCLAW_GATEWAY_MAX_PER_SERVICE", "48", "requests at a time to one service, of each worker; more are answered 503", "gateway"),
    Setting("SKYCLAW_SERVICE_HOST_ENABLED", "1", "whether this host runs services", "host"),
    Setting("SKYCLAW_SERVICE_MAX", "16", "instances of services at a time, 0 to 256", "host"),
    Setting("SKYCLAW_SERVICE_BASE_PORT", "3100", "first of the 1001 ports from which services get theirs", "host"),
    Setting(
        "SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL",
        "",
        "address, without a port, under which this host's services are reached; not set: where the coordinator sees the host",
        "host",
    ),
    Setting("SKYCLAW_JOB_ID", "", "set by the host for each job: its id", "job"),
    Setting("SKYCLAW_PUBLIC_API_KEYS", "", "keys of the public API", NOT_YET, secret=True),
    Setting("SKYCLAW_PUBLIC_CORS_ORIGIN", "*", "origin that browsers may call the public API from", NOT_YET),
    Setting("SKYCLAW_GATEWAY_ENGINE", "", "program that carries the gateway's data", NOT_YET),
)

KNOWN = {setting.name: setting for setting in _TABLE}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def unknown_names(environ: Iterable[str]) -> list[str]:
    """One sentence for each SKYCLAW_ variable that is set and not known."""
    return [_unknown(name) for name in sorted(environ) if name.startswith("SKYCLAW_") and name not in KNOWN]


def _unknown(name: str) -> str:
    guess = nearest(name.removeprefix("SKYCLAW_"), [known.removeprefix("SKYCLAW_") for known in KNOWN])
    return f"unknown setting {name}" + (f"; did you mean SKYCLAW_{guess}?" if guess else "; skyclaw config lists the known ones")
