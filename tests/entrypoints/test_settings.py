"""What the environment may say, and what it is told when it says something wrong."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from skyclaw.entrypoints import dev_file
from skyclaw.entrypoints.setting_names import KNOWN
from skyclaw.entrypoints.setting_values import is_loopback
from skyclaw.entrypoints.settings import client_settings, coordinator_settings, debug, home, host_settings
from skyclaw.entrypoints.token_settings import TOKEN_FILE_BYTES
from skyclaw.errors import SettingsWrong

TOKEN = "a-long-and-winding-token"  # noqa: S105 made up
Reader = Callable[[Mapping[str, str]], Any]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    return {"SKYCLAW_HOME": str(tmp_path)}


def test_an_empty_environment_gives_the_documented_defaults(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    coordinator, host, client = coordinator_settings(environ), host_settings(environ), client_settings(environ)
    assert (coordinator.host, coordinator.port, coordinator.tokens) == ("127.0.0.1", 8787, ())
    assert (coordinator.db_path, coordinator.database_url) == (Path(".skyclaw/coordinator.db"), None)
    assert (coordinator.lease_ms, coordinator.idempotency_ttl_ms) == (60_000, 86_400_000)
    assert (coordinator.max_queued_jobs, coordinator.min_replications) == (1_000_000, None)
    assert (coordinator.node_id, coordinator.public_url) == (None, None)
    assert (client.urls, client.token, client.home) == (("http://127.0.0.1:8787",), None, tmp_path / ".skyclaw")
    assert host.capabilities == ("shell", "openclaw", "service-host")
    assert host.allowed_commands == ("openclaw", "node", "bash", "sh", "npm", "pnpm")
    assert (host.max_parallel, host.poll_ms, host.heartbeat_ms, host.grace_ms) == (1, 2_000, 5_000, 30_000)
    assert (host.timeout_ms, host.max_timeout_ms, host.max_output_bytes) == (300_000, 3_600_000, 128_000)
    assert (host.openclaw_command, host.automaton_command, host.isolation) == ("openclaw", "automaton", "auto")
    assert (host.host_id, host.job_user, host.work_roots) == (None, None, ())
    assert host.name == f"openclaw-node-{os.getpid()}"
    assert coordinator.warnings == host.warnings == client.warnings == ()


def test_the_defaults_are_those_of_the_list_of_names() -> None:
    host = host_settings({"SKYCLAW_HOME": "/nowhere"})
    assert KNOWN["SKYCLAW_POLL_MS"].default == str(host.poll_ms)
    assert KNOWN["SKYCLAW_CAPABILITIES"].default == ",".join(host.capabilities)


@pytest.mark.parametrize(
    ("read", "name", "value", "rule"),
    [
        (coordinator_settings, "SKYCLAW_MIN_REPLICATIONS", "0", "must be a whole number from 1 to 64"),
        (coordinator_settings, "SKYCLAW_MIN_REPLICATIONS", "1.5", "must be a whole number from 1 to 64"),
        (coordinator_settings, "SKYCLAW_MIN_REPLICATIONS", "two", "must be a whole number from 1 to 64"),
        (coordinator_settings, "SKYCLAW_COORDINATOR_PORT", "65536", "must be a whole number from 0 to 65535"),
        (coordinator_settings, "SKYCLAW_COORDINATOR_PORT", "-1", "must be a whole number from 0 to 65535"),
        (coordinator_settings, "SKYCLAW_LEASE_MS", "12abc", "must be a whole number"),
        (coordinator_settings, "SKYCLAW_LEASE_MS", "1_000", "must be a whole number"),
        (coordinator_settings, "SKYCLAW_LEASE_MS", "1e3", "must be a whole number"),
        (coordinator_settings, "SKYCLAW_LEASE_MS", "٣٠٠٠", "must be a whole number"),
        (coordinator_settings, "SKYCLAW_LEASE_MS", "9" * 5_000, "must be a whole number"),
        (coordinator_settings, "SKYCLAW_COORDINATOR_PUBLIC_URL", "node-a:8787", "must be an address like"),
        (coordinator_settings, "SKYCLAW_LOG", "xml", "must be text or json"),
        (coordinator_settings, "SKYCLAW_TRUST", "open", "needs signed identities"),
        (coordinator_settings, "SKYCLAW_TRUST", "approved", "needs signed identities"),
        (client_settings, "SKYCLAW_TRUST", "nobody", "must be private"),
        (client_settings, "SKYCLAW_COORDINATOR_URLS", "127.0.0.1:8787", "must be an address like"),
        (client_settings, "SKYCLAW_COORDINATOR_URLS", "http://a,ftp://b", "must be an address like"),
        (client_settings, "SKYCLAW_COORDINATOR_URL", "http://", "must be an address like"),
        (client_settings, "SKYCLAW_COORDINATOR_URL", "http://a:99999", "must be an address like"),
        (client_settings, "SKYCLAW_COORDINATOR_URL", "http://[::1", "must be an address like"),
        (client_settings, "SKYCLAW_COORDINATOR_URL", "http://a/?x=1", "must be an address like"),
        (host_settings, "SKYCLAW_ALLOWED_COMMANDS", "bash,*", "name each command"),
        (host_settings, "SKYCLAW_MAX_PARALLEL", "257", "must be a whole number from 1 to 256"),
        (host_settings, "SKYCLAW_WORK_ROOTS", "work", "must be absolute folders"),
        (host_settings, "SKYCLAW_ISOLATION", "jail", "must be auto or none or process"),
        (host_settings, "SKYCLAW_ISOLATION", "landlock", "must be auto or none or process"),
        (host_settings, "SKYCLAW_ISOLATION", "bubblewrap", "must be auto or none or process"),
        (host_settings, "SKYCLAW_HOST_NAME", "a\nb", "printable"),
        (host_settings, "SKYCLAW_HOST_NAME", "x" * 129, "1 to 128"),
        (host_settings, "SKYCLAW_HOST_NAME", "a\u202eb", "printable"),
        (host_settings, "SKYCLAW_CAPABILITIES", ",".join(map(str, range(65))), "at most 64 items"),
        (host_settings, "SKYCLAW_CAPABILITIES", "shell,big gpu", "must be at most 64 letters, digits and . _ : -"),
        (host_settings, "SKYCLAW_HOST_ID", "a/b", "must be at most 128 letters, digits and . _ : -"),
        (host_settings, "SKYCLAW_TIMEOUT_MS", "3600001", "must not be above SKYCLAW_MAX_TIMEOUT_MS"),
        (debug, "SKYCLAW_DEBUG", "2", "must be 1, yes, true, on"),
    ],
)
def test_a_wrong_value_is_refused_with_name_value_and_rule(bare: dict[str, str], read: Reader, name: str, value: str, rule: str) -> None:
    with pytest.raises(SettingsWrong) as refused:
        read({**bare, name: value})
    said = str(refused.value)
    assert said.startswith(name)
    assert rule in said
    assert len(said) < 220
    assert "\n" not in said


@pytest.mark.parametrize("wrong", ["two words", "a,b,c", "ümlaut", ",", "nul\x00"])
def test_a_wrong_token_is_refused_and_never_shown(bare: dict[str, str], wrong: str) -> None:
    with pytest.raises(SettingsWrong) as refused:
        client_settings({**bare, "SKYCLAW_TOKEN": wrong})
    assert str(refused.value).startswith("SKYCLAW_TOKEN must be one token or two")
    assert wrong not in str(refused.value) or wrong == ","


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_counts_as_not_set(bare: dict[str, str], empty: str) -> None:
    settings = coordinator_settings({**bare, "SKYCLAW_LEASE_MS": empty, "SKYCLAW_TOKEN": empty, "SKYCLAW_DB_PATH": empty})
    assert (settings.lease_ms, settings.tokens, settings.db_path) == (60_000, (), Path(".skyclaw/coordinator.db"))


@pytest.mark.parametrize("word", ["yes", "TRUE", "1", "On"])
def test_a_switch_is_on_in_several_words(word: str) -> None:
    assert debug({"SKYCLAW_DEBUG": word})


@pytest.mark.parametrize("word", ["no", "False", "0", "OFF", ""])
def test_and_off_in_as_many(word: str) -> None:
    assert not debug({"SKYCLAW_DEBUG": word})


def test_of_two_live_tokens_clients_send_the_first_and_coordinators_take_both(bare: dict[str, str]) -> None:
    environ = {**bare, "SKYCLAW_TOKEN": f" {TOKEN} , older-{TOKEN}"}
    assert client_settings(environ).token == host_settings(environ).token == TOKEN
    assert coordinator_settings(environ).tokens == (TOKEN, f"older-{TOKEN}")


def test_a_token_file_wins_over_the_token_in_the_environment(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    settings = client_settings({**bare, "SKYCLAW_TOKEN_FILE": str(file), "SKYCLAW_TOKEN": "x" * 20})
    assert (settings.token, settings.warnings) == (TOKEN, ())


def test_a_token_file_that_others_can_read_is_warned_about(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    assert "chmod 600" in client_settings({**bare, "SKYCLAW_TOKEN_FILE": str(file)}).warnings[0]


def test_a_token_file_that_is_not_there_or_empty_is_refused(bare: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match="cannot be read: No such file"):
        client_settings({**bare, "SKYCLAW_TOKEN_FILE": str(tmp_path / "none")})
    (tmp_path / "empty").touch()
    with pytest.raises(SettingsWrong, match="must hold one token"):
        client_settings({**bare, "SKYCLAW_TOKEN_FILE": str(tmp_path / "empty")})


def test_secrets_stay_out_of_the_text_of_settings(bare: dict[str, str]) -> None:
    environ = {**bare, "SKYCLAW_TOKEN": TOKEN}
    assert TOKEN not in f"{client_settings(environ)} {coordinator_settings(environ)} {host_settings(environ)}"


def test_a_database_server_is_refused_without_showing_its_password(bare: dict[str, str]) -> None:
    with pytest.raises(SettingsWrong, match="SKYCLAW_DATABASE_URL names a database that this version cannot use") as refused:
        coordinator_settings({**bare, "SKYCLAW_DATABASE_URL": "postgresql://u:hush@db/x"})
    assert "hush" not in str(refused.value)
    assert coordinator_settings({**bare, "SKYCLAW_DATABASE_URL": "memory://"}).database_url == "memory://"


def test_with_a_token_the_coordinator_listens_everywhere(bare: dict[str, str]) -> None:
    assert coordinator_settings({**bare, "SKYCLAW_TOKEN": TOKEN}).host == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.org"])  # noqa: S104
def test_without_a_token_only_this_machine_may_be_listened_on(bare: dict[str, str], host: str) -> None:
    with pytest.raises(SettingsWrong, match="SKYCLAW_TOKEN"):
        coordinator_settings({**bare, "SKYCLAW_COORDINATOR_HOST": host})
    assert coordinator_settings({**bare, "SKYCLAW_COORDINATOR_HOST": host, "SKYCLAW_TOKEN": TOKEN}).host == host


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0", False)]
)
def test_what_counts_as_this_machine(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_addresses_lose_blanks_slashes_and_doubles(bare: dict[str, str]) -> None:
    environ = {**bare, "SKYCLAW_COORDINATOR_URLS": " http://a:1/ ,, https://b/x/ ,http://a:1,", "SKYCLAW_COORDINATOR_URL": "http://c"}
    assert client_settings(environ).urls == ("http://a:1", "https://b/x")


def test_a_list_of_nothing_but_commas_leaves_the_single_address(bare: dict[str, str]) -> None:
    assert client_settings({**bare, "SKYCLAW_COORDINATOR_URLS": " , ", "SKYCLAW_COORDINATOR_URL": "http://c/"}).urls == ("http://c",)


def test_an_empty_list_of_commands_allows_none_and_says_so(bare: dict[str, str]) -> None:
    settings = host_settings({**bare, "SKYCLAW_ALLOWED_COMMANDS": " , "})
    assert settings.allowed_commands == ()
    assert "refuses every job" in settings.warnings[0]


def test_a_public_address_that_only_this_machine_reaches_is_warned_about(bare: dict[str, str]) -> None:
    environ = {**bare, "SKYCLAW_TOKEN": TOKEN, "SKYCLAW_COORDINATOR_PUBLIC_URL": "http://127.0.0.1:8787/"}
    assert "this machine only" in coordinator_settings(environ).warnings[0]
    assert coordinator_settings({**environ, "SKYCLAW_COORDINATOR_HOST": "127.0.0.1"}).warnings == ()


def test_a_short_token_is_warned_about_where_it_opens_the_door(bare: dict[str, str]) -> None:
    environ = {**bare, "SKYCLAW_TOKEN": "change-me"}
    assert "may be guessed" in coordinator_settings(environ).warnings[0]
    assert "may be guessed" in host_settings(environ).warnings[0]
    assert client_settings(environ).warnings == ()


@pytest.mark.parametrize(
    "make", [lambda _: "/dev/zero", lambda folder: os.mkfifo(folder / "pipe") or folder / "pipe", lambda folder: folder]
)
def test_a_token_file_that_is_no_file_is_refused_and_never_read(
    bare: dict[str, str], tmp_path: Path, make: Callable[[Path], object]
) -> None:
    with pytest.raises(SettingsWrong, match="must be a regular file"):
        client_settings({**bare, "SKYCLAW_TOKEN_FILE": str(make(tmp_path))})


def test_no_more_of_a_token_file_is_read_than_a_token_needs(bare: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN},{' ' * TOKEN_FILE_BYTES}and-this-is-too-far")
    file.chmod(0o600)
    assert coordinator_settings({**bare, "SKYCLAW_TOKEN_FILE": str(file)}).tokens == (TOKEN,)


def test_an_unknown_name_is_warned_about_with_the_nearest_one(bare: dict[str, str]) -> None:
    warnings = client_settings({**bare, "SKYCLAW_TOKNE": "x", "SKYCLAW_QQQQQQQ": "y", "PATH": "z"}).warnings
    assert warnings == (
        "unknown setting SKYCLAW_QQQQQQQ; skyclaw config lists the known ones",
        "unknown setting SKYCLAW_TOKNE; did you mean SKYCLAW_TOKEN?",
    )


def test_a_name_whose_part_is_not_there_yet_is_known(bare: dict[str, str]) -> None:
    assert client_settings({**bare, "SKYCLAW_PUBLIC_API_KEYS": "a:b:c", "SKYCLAW_GATEWAY_PORT": "8790"}).warnings == ()


def test_the_home_may_begin_with_a_tilde() -> None:
    assert home({"HOME": "/h", "SKYCLAW_HOME": "~/x"}) == Path("/h/x")
    assert home({"HOME": "/h"}) == Path("/h/.skyclaw")


def test_a_running_dev_is_found_when_no_address_is_set(bare: dict[str, str], tmp_path: Path) -> None:
    dev_file.write(tmp_path, dev_file.DevNote("http://127.0.0.1:9", TOKEN, os.getpid()))
    settings = client_settings(bare)
    assert (settings.urls, settings.token, settings.source) == (("http://127.0.0.1:9",), TOKEN, "dev")
    assert client_settings({**bare, "SKYCLAW_TOKEN": TOKEN}).source == "dev"


@pytest.mark.parametrize(
    "explicit",
    [{"SKYCLAW_COORDINATOR_URL": "http://c"}, {"SKYCLAW_COORDINATOR_URLS": "http://c"}, {"SKYCLAW_TOKEN": "for-another-coordinator"}],
)
def test_what_the_environment_says_wins_over_a_running_dev(bare: dict[str, str], tmp_path: Path, explicit: dict[str, str]) -> None:
    dev_file.write(tmp_path, dev_file.DevNote("http://127.0.0.1:9", TOKEN, os.getpid()))
    settings = client_settings({**bare, **explicit})
    assert settings.source != "dev"
    assert settings.token == explicit.get("SKYCLAW_TOKEN")


def test_every_setting_that_is_read_has_a_name_in_the_list() -> None:
    source = "".join(file.read_text() for file in Path(dev_file.__file__).parent.glob("*settings.py"))
    assert set(re.findall(r'"(SKYCLAW_[A-Z_]+)"', source)) <= set(KNOWN)
