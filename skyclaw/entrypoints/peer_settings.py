"""What the environment says about the other coordinators."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from skyclaw.entrypoints.setting_values import Environment, is_loopback
from skyclaw.entrypoints.token_settings import guessable, read_tokens
from skyclaw.errors import SettingsWrong
from skyclaw.outside.peer_addresses import BadPeerUrl, Network, PeerUrl, local_address, parse

HOUR_MS = 3_600_000
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 only a text


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """A coordinator among others; times are milliseconds. Without tokens of their own, coordinators show each other the shared one."""

    urls: tuple[str, ...]
    sync_ms: int
    heartbeat_ms: int
    discovery: bool
    networks: tuple[Network, ...]
    tokens: tuple[str, ...] = field(repr=False)
    ca_file: Path | None
    witness: bool


def peer_settings(env: Environment) -> tuple[PeerSettings, tuple[str, ...]]:
    """What a coordinator is to know about others, and warnings about it; raises SettingsWrong."""
    tokens, warnings = read_tokens(env, "SKYCLAW_PEER_TOKEN")
    settings = PeerSettings(
        urls=_urls(env),
        sync_ms=env.read("SKYCLAW_PEER_SYNC_MS", "whole", low=100, high=HOUR_MS),
        heartbeat_ms=env.read("SKYCLAW_PEER_HEARTBEAT_MS", "whole", low=20, high=60_000),
        discovery=bool(env.read("SKYCLAW_PEER_DISCOVERY", "boolean")),
        networks=env.read("SKYCLAW_PEER_CIDRS", "networks"),
        tokens=tokens,
        ca_file=ca_file(env),
        witness=bool(env.read("SKYCLAW_WITNESS", "boolean")),
    )
    return settings, (*warnings, *guessable(*tokens))


def announced(peers: PeerSettings, host: str, port: int, public_url: str | None) -> str | None:
    """The address that a coordinator tells others, when it listens there; None when nobody could reach it by what is known.

    Without a public one it is where it listens; where that is every address of the machine, the one on the way to its peers. Port 0 is
    none yet.
    """
    try:
        if public_url is not None:
            return str(parse(public_url))
        own = _host_of(peers, host)
        return str(parse(str(PeerUrl("http", own, port)))) if own and port else None
    except BadPeerUrl:
        return None


def announcing_warning(peers: PeerSettings, host: str, public_url: str | None) -> tuple[str, ...]:
    """Whoever has peers should be found by them."""
    if announced(peers, host, 1, public_url) is not None:
        return ()
    if public_url is not None:
        return (f"SKYCLAW_COORDINATOR_PUBLIC_URL={public_url} has a path: other coordinators cannot use it, and are told no address",)
    if peers.urls:
        return ("SKYCLAW_PEER_URLS is set, but other coordinators are told no address of this one: set SKYCLAW_COORDINATOR_PUBLIC_URL",)
    return ()


def _host_of(peers: PeerSettings, host: str) -> str | None:
    plain = host.strip("[]").lower()
    if is_loopback(host):
        return "127.0.0.1" if plain == "localhost" else plain
    if not peers.urls:
        return None
    return _on_the_way(peers.urls, plain) if plain in EVERYWHERE else plain


@cache
def _on_the_way(urls: tuple[str, ...], listens_on: str) -> str | None:
    """Looked up once: all that is said about the own address agrees."""
    return local_address(urls, listens_on)


def _urls(env: Environment) -> tuple[str, ...]:
    given: Sequence[str] = env.read("SKYCLAW_PEER_URLS", "addresses") or ()
    try:
        return tuple(dict.fromkeys(str(parse(url)) for url in given))
    except BadPeerUrl as wrong:
        raise SettingsWrong(f"SKYCLAW_PEER_URLS: {wrong}") from None


def ca_file(env: Environment) -> Path | None:
    """The file of the authorities to trust; raises SettingsWrong when it holds none."""
    given = env.read("SKYCLAW_CA_FILE", "name", longest=4_096)
    if given is None:
        return None
    import ssl  # here: no command of a client needs it, and it takes long to load

    try:
        ssl.create_default_context(cafile=given)
    except (OSError, ValueError) as error:  # what is no certificate is an OSError too
        reason = error.strerror if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError) else "it holds no certificate"
        raise SettingsWrong(f"SKYCLAW_CA_FILE={given} cannot be used: {reason}") from None
    return Path(given)
