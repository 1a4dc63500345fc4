"""`skyclaw dev`: coordinator, host and gateway in one process on this machine, found by all commands of the same home without a setting."""

import fcntl
import logging
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from skyclaw.entrypoints import dev_file, process_log, rendering
from skyclaw.entrypoints.coordinator import start_coordinator
from skyclaw.entrypoints.dev_file import DevNote
from skyclaw.entrypoints.gateway import open_listener, start_gateway
from skyclaw.entrypoints.gateway_settings import gateway_settings
from skyclaw.entrypoints.host import print_line, start_host
from skyclaw.entrypoints.session import Session
from skyclaw.entrypoints.setting_values import Environment
from skyclaw.entrypoints.settings import coordinator_settings, home, host_settings
from skyclaw.entrypoints.signals import StopSignals
from skyclaw.errors import StartRefused

LOOPBACK = "127.0.0.1"
NEXT_PORTS = 20  # tried after the wanted one; then any free port
_HELLO = r'require("http").createServer((_, answer) => answer.end("hello\n")).listen(process.env.PORT)'
_OURS = (
    "SKYCLAW_COORDINATOR_URL",
    "SKYCLAW_COORDINATOR_URLS",
    "SKYCLAW_TOKEN_FILE",
    "SKYCLAW_DATABASE_URL",
    "SKYCLAW_COORDINATOR_PUBLIC_URL",
    "SKYCLAW_PEER_URLS",
    "SKYCLAW_PEER_TOKEN",
    "SKYCLAW_PEER_TOKEN_FILE",
    "SKYCLAW_WITNESS",
    "SKYCLAW_MIN_REPLICATIONS",
)


def dev(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """Run until Ctrl-C; raises StartRefused when another one runs in the same home."""
    folder = home(session.environ)
    with ExitStack() as stops:
        stops.enter_context(_alone_in(folder / "dev"))
        signals = StopSignals()
        environ = dev_environ(session.environ, folder / "dev")
        settings = coordinator_settings(environ)
        rendering.warn(settings.warnings)
        process_log.set_up(settings.log, logging.WARNING)
        coordinator = start_coordinator(settings)
        stops.callback(coordinator.stop)
        host = start_host(host_settings({**environ, "SKYCLAW_COORDINATOR_URLS": coordinator.url}), _to_stderr if json else print_line)
        stops.callback(host.stop)
        of_gateway = gateway_settings({**environ, "SKYCLAW_COORDINATOR_URLS": coordinator.url})
        gateway = start_gateway(of_gateway, open_listener(of_gateway))
        stops.callback(gateway.stop)
        note = DevNote(coordinator.url, settings.tokens[0], os.getpid())
        dev_file.write(folder, note)
        stops.callback(dev_file.remove, folder)
        _announce(note, gateway.url, folder, session.environ, json)
        failures = (coordinator.failed, host.failed, gateway.failed)
        signals.wait(*failures)
        rendering.say("stopping")
        return int(any(failure.is_set() for failure in failures))


def _to_stderr(line: str) -> None:
    """What the host tells, where stdout is for JSON."""
    rendering.say(line.removeprefix("[skyclaw] "))


def dev_environ(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of all parts: the owner's own settings, but on this machine only, in a folder and with a token of its own."""
    env = Environment(environ)
    wanted, of_gateway = (env.read(f"SKYCLAW_{part}_PORT", "whole", low=0, high=65_535) for part in ("COORDINATOR", "GATEWAY"))
    token = env.read("SKYCLAW_TOKEN", "tokens") or (secrets.token_urlsafe(32),)
    return {
        "SKYCLAW_COORDINATOR_NODE_ID": "dev",
        "SKYCLAW_HOST_NAME": "dev",
        "SKYCLAW_HOST_ID": "host_dev",
        **{name: value for name, value in environ.items() if name not in _OURS},
        "SKYCLAW_HOME": str(folder),
        "SKYCLAW_DB_PATH": str(folder / "coordinator.db"),
        "SKYCLAW_COORDINATOR_HOST": LOOPBACK,
        "SKYCLAW_COORDINATOR_PORT": str(free_port(wanted)),
        "SKYCLAW_GATEWAY_HOST": LOOPBACK,
        "SKYCLAW_GATEWAY_PORT": str(free_port(of_gateway)),
        "SKYCLAW_TOKEN": ",".join(token),
    }


def free_port(wanted: int) -> int:
    """The wanted port, or the next one that nobody listens on, or 0: any."""
    return next((port for port in range(wanted, min(wanted + NEXT_PORTS, 65_536)) if _is_free(port)), 0)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _alone_in(folder: Path) -> ExitStack:
    """Hold the lock of the folder; the system lets go of it when the process ends, however that happens."""
    with ExitStack() as opened:
        try:
            for made in (folder.parent, folder):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = opened.enter_context(open(folder / "lock", "a", encoding="ascii"))
        except OSError as error:
            raise StartRefused(f"{folder} cannot be used: {error.strerror}; set SKYCLAW_HOME to a folder of your own") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = dev_file.living(folder.parent)
            where = f" at {found.url} (process {found.pid})" if found else ""
            raise StartRefused(
                f"skyclaw dev runs already{where} in {folder.parent}; stop it, or set SKYCLAW_HOME to another folder"
            ) from None
        return opened.pop_all()


def _announce(note: DevNote, gateway_url: str, folder: Path, environ: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        rendering.show_json({"url": note.url, "gateway": gateway_url, "pid": note.pid, "home": str(folder)})
        rendering.finish()
        return
    for line in (
        f"[skyclaw] dev: a coordinator and a host at {note.url}; a gateway at {gateway_url}",
        f"[skyclaw] database and token in {folder}; Ctrl-C stops all",
        "Try in another terminal:",
        '  skyclaw run bash -lc "echo hello from decentralized skyclaw"',
        "  skyclaw status",
        "  skyclaw jobs",
        f"  skyclaw deploy-service --wait hello node -e '{_HELLO}'",
        f"  curl {gateway_url}/v1/gateway/hello/",
    ):
        rendering.show(line)
    rendering.finish()
    for name in ("SKYCLAW_COORDINATOR_URL", "SKYCLAW_COORDINATOR_URLS"):
        if environ.get(name, "").strip():
            rendering.say(f"{name} is set: unset it where you type commands, or they go there")
