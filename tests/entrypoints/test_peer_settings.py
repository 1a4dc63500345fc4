"""What a coordinator may be told about others."""

import ipaddress
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from skyclaw.entrypoints.coordinator import RunningCoordinator, _announce
from skyclaw.entrypoints.setting_names import KNOWN
from skyclaw.entrypoints.settings import coordinator_settings
from skyclaw.errors import SettingsWrong
from skyclaw.outside.peer_addresses import DEFAULT_NETWORKS
from tests.support.authority import Authority

TOKEN, PEER_TOKEN = "a-long-and-winding-token", "another-one-for-coordinators"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    return {"SKYCLAW_HOME": str(tmp_path)}


def test_nothing_said_means_nobody_else(bare: dict[str, str]) -> None:
    settings = coordinator_settings(bare)
    peers = settings.peers
    assert (peers.urls, peers.tokens, peers.ca_file) == ((), (), None)
    assert (peers.sync_ms, peers.heartbeat_ms, peers.discovery, peers.witness) == (3_000, 1_000, True, False)
    assert peers.networks == DEFAULT_NETWORKS
    assert settings.warnings == ()


def test_everything_can_be_said(bare: dict[str, str]) -> None:
    said = {
        "SKYCLAW_PEER_URLS": " http://B:8787/ ,, https://c:443, http://b:8787",
        "SKYCLAW_PEER_SYNC_MS": "500",
        "SKYCLAW_PEER_HEARTBEAT_MS": "20",
        "SKYCLAW_PEER_DISCOVERY": "0",
        "SKYCLAW_PEER_CIDRS": "100.64.0.0/10, fd00::/8",
        "SKYCLAW_PEER_TOKEN": f"{PEER_TOKEN},older-{PEER_TOKEN}",
        "SKYCLAW_WITNESS": "1",
    }
    peers = coordinator_settings({**bare, **said}).peers
    assert peers.urls == ("http://b:8787", "https://c")
    assert (peers.sync_ms, peers.heartbeat_ms, peers.discovery, peers.witness) == (500, 20, False, True)
    assert peers.networks == (ipaddress.ip_network("100.64.0.0/10"), ipaddress.ip_network("fd00::/8"))
    assert peers.tokens == (PEER_TOKEN, f"older-{PEER_TOKEN}")
    assert PEER_TOKEN not in str(peers)


def test_no_private_network_at_all_may_be_allowed(bare: dict[str, str]) -> None:
    assert coordinator_settings({**bare, "SKYCLAW_PEER_CIDRS": ""}).peers.networks == ()


def test_the_default_networks_are_those_of_the_list() -> None:
    assert KNOWN["SKYCLAW_PEER_CIDRS"].default == ",".join(map(str, DEFAULT_NETWORKS))


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("SKYCLAW_PEER_URLS", "b:8787", "must be an address like"),
        ("SKYCLAW_PEER_URLS", "http://b:8787/path", "no user, path"),
        ("SKYCLAW_PEER_URLS", "http://127.1:8787", "plain IP address"),
        ("SKYCLAW_PEER_SYNC_MS", "99", "whole number from 100"),
        ("SKYCLAW_PEER_HEARTBEAT_MS", "19", "whole number from 20 to 60000"),
        ("SKYCLAW_PEER_HEARTBEAT_MS", "60001", "whole number from 20 to 60000"),
        ("SKYCLAW_PEER_DISCOVERY", "maybe", "must be 1, yes"),
        ("SKYCLAW_PEER_CIDRS", "10.0.0.1/8", "networks like 10.0.0.0/8"),
        ("SKYCLAW_PEER_CIDRS", "private", "networks like 10.0.0.0/8"),
        ("SKYCLAW_WITNESS", "2", "must be 1, yes"),
        ("SKYCLAW_CA_FILE", "/nowhere/ca.pem", "No such file"),
        ("SKYCLAW_CA_FILE", "/dev/null", "no certificate"),
        ("SKYCLAW_PEER_TOKEN_FILE", "/nowhere/token", "No such file"),
    ],
)
def test_a_wrong_value_is_refused_by_name(bare: dict[str, str], name: str, value: str, rule: str) -> None:
    with pytest.raises(SettingsWrong, match=rule) as refused:
        coordinator_settings({**bare, name: value})
    assert str(refused.value).startswith(name)


def test_a_wrong_token_is_never_shown(bare: dict[str, str]) -> None:
    with pytest.raises(SettingsWrong, match="SKYCLAW_PEER_TOKEN must be") as refused:
        coordinator_settings({**bare, "SKYCLAW_PEER_TOKEN": "two hushed words"})
    assert "hushed" not in str(refused.value)


def test_a_token_file_wins_and_should_be_ones_own(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{PEER_TOKEN}\n")
    file.chmod(0o644)
    settings = coordinator_settings({**bare, "SKYCLAW_PEER_TOKEN_FILE": str(file), "SKYCLAW_PEER_TOKEN": "x" * 20})
    assert settings.peers.tokens == (PEER_TOKEN,)
    assert settings.warnings == (f"SKYCLAW_PEER_TOKEN_FILE can be read by other users; type: chmod 600 {file}",)


def test_a_short_token_is_warned_about(bare: dict[str, str]) -> None:
    assert "may be guessed" in coordinator_settings({**bare, "SKYCLAW_PEER_TOKEN": "short"}).warnings[0]


def test_an_authority_of_ones_own_is_taken(bare: dict[str, str], tmp_path: Path) -> None:
    file = Authority(tmp_path).file
    assert coordinator_settings({**bare, "SKYCLAW_CA_FILE": str(file)}).peers.ca_file == file


@pytest.mark.parametrize(
    ("host", "public_url", "expected"),
    [
        ("", "", "http://127.0.0.1:4711"),
        ("localhost", "", "http://127.0.0.1:4711"),
        ("127.0.0.3", "", "http://127.0.0.3:4711"),
        ("::1", "", "http://[::1]:4711"),
        ("[::1]", "", "http://[::1]:4711"),
        ("0.0.0.0", "", None),  # noqa: S104 only a text
        ("192.168.1.4", "", None),
        ("0.0.0.0", "https://Coordinator.example:443/", "https://coordinator.example"),  # noqa: S104 only a text
        ("127.0.0.1", "http://c:1", "http://c:1"),
        ("127.0.0.1", "http://c:1/behind/a/path", None),
    ],
)
def test_what_others_are_told(bare: dict[str, str], host: str, public_url: str, expected: str | None) -> None:
    said = {"SKYCLAW_COORDINATOR_HOST": host, "SKYCLAW_COORDINATOR_PUBLIC_URL": public_url, "SKYCLAW_TOKEN": TOKEN if host else ""}
    settings = coordinator_settings({**bare, **said})
    assert settings.announced(4711) == expected


@pytest.mark.parametrize(
    ("host", "urls", "expected"),
    [
        ("0.0.0.0", "http://127.0.0.1:1", "http://127.0.0.1:4711"),  # noqa: S104 only a text
        ("0.0.0.0", "https://unknown.invalid,https://127.0.0.1:1", "http://127.0.0.1:4711"),  # noqa: S104 only a text
        ("0.0.0.0", "http://unknown.invalid:1", None),  # noqa: S104 only a text
        ("::", "http://[::1]:1,http://127.0.0.1:1", "http://[::1]:4711"),
        ("192.168.1.4", "http://unknown.invalid:1", "http://192.168.1.4:4711"),
        ("Ann.lan", "http://unknown.invalid:1", "http://ann.lan:4711"),
    ],
)
def test_whoever_has_peers_tells_them_where_it_listens(bare: dict[str, str], host: str, urls: str, expected: str | None) -> None:
    settings = coordinator_settings({**bare, "SKYCLAW_COORDINATOR_HOST": host, "SKYCLAW_TOKEN": TOKEN, "SKYCLAW_PEER_URLS": urls})
    assert settings.announced(4711) == expected
    assert settings.announced(0) is None
    assert bool(settings.warnings) == (expected is None)


def printed(bare: dict[str, str], capsys: pytest.CaptureFixture[str], **said: str) -> list[str]:
    """The lines at the start."""
    settings = coordinator_settings({**bare, "SKYCLAW_COORDINATOR_PORT": "4711", **said})
    _announce(RunningCoordinator("http://127.0.0.1:4711", "a", threading.Event(), ExitStack()), settings)
    return capsys.readouterr().out.splitlines()


def test_at_the_start_it_says_what_others_are_told(bare: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    listening = "[skyclaw] coordinator a listening on http://127.0.0.1:4711"
    assert printed(bare, capsys) == [listening, "[skyclaw] replication policy: min replicas 1 (0 peer acks required)"]
    assert printed(bare, capsys, SKYCLAW_PEER_URLS="http://127.0.0.1:1") == [
        listening,
        "[skyclaw] replication policy: 1 copy until three coordinators are level, then 2",
        "[skyclaw] announced to other coordinators as http://127.0.0.1:4711",
    ]
    known = printed(bare, capsys, SKYCLAW_PEER_URLS="http://127.0.0.1:1", SKYCLAW_MIN_REPLICATIONS="2")
    assert known[1] == "[skyclaw] replication policy: min replicas 2 (1 peer acks required)"


def test_whoever_has_peers_but_no_address_for_them_is_warned(bare: dict[str, str]) -> None:
    alone = {**bare, "SKYCLAW_TOKEN": TOKEN}
    assert coordinator_settings(alone).warnings == ()
    (warning,) = coordinator_settings({**alone, "SKYCLAW_PEER_URLS": "http://unknown.invalid:1"}).warnings
    assert "SKYCLAW_COORDINATOR_PUBLIC_URL" in warning
    assert coordinator_settings({**bare, "SKYCLAW_PEER_URLS": "http://b:1"}).warnings == ()
    (warning,) = coordinator_settings({**alone, "SKYCLAW_COORDINATOR_PUBLIC_URL": "http://c/path"}).warnings
    assert "has a path" in warning
