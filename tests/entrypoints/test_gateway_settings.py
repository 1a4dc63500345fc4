"""What a gateway reads from the environment, and what it refuses."""

from pathlib import Path

import pytest

from skyclaw.entrypoints.gateway_settings import gateway_settings
from skyclaw.errors import SettingsWrong

BARE = {"HOME": "/home/of/nobody"}


def test_the_defaults_are_those_of_the_typescript_skyclaw() -> None:
    settings = gateway_settings(BARE)
    assert (settings.host, settings.port, settings.workers) == ("0.0.0.0", 8790, 1)  # noqa: S104  # only a text
    assert (settings.refresh_ms, settings.probe_ms, settings.health_path, settings.probe_timeout_ms) == (3_000, 5_000, "/health", 1_500)
    assert (settings.retries, settings.cooldown_ms) == (1, 10_000)
    assert (settings.answer_ms, settings.per_instance, settings.per_service) == (10_000, 16, 48)
    assert (settings.urls, settings.tokens, settings.ca_file, settings.warnings) == (("http://127.0.0.1:8787",), (), None, ())


def test_each_is_read() -> None:
    given = {"HOST": "127.0.0.1", "PORT": "0", "WORKERS": "4", "REFRESH_MS": "50", "HEALTH_PROBE_MS": "60", "HEALTH_PATH": "/up?x=1"}
    given |= {"HEALTH_TIMEOUT_MS": "700", "RETRY_ATTEMPTS": "3", "UNHEALTHY_COOLDOWN_MS": "2000"}
    given |= {"ANSWER_MS": "300000", "MAX_PER_INSTANCE": "2", "MAX_PER_SERVICE": "5"}
    settings = gateway_settings({**BARE, **{f"SKYCLAW_GATEWAY_{name}": value for name, value in given.items()}})
    assert (settings.host, settings.port, settings.workers, settings.refresh_ms, settings.probe_ms) == ("127.0.0.1", 0, 4, 50, 60)
    assert (settings.health_path, settings.probe_timeout_ms, settings.retries, settings.cooldown_ms) == ("/up?x=1", 700, 3, 2_000)
    assert (settings.answer_ms, settings.per_instance, settings.per_service) == (300_000, 2, 5)
    assert settings.warnings == ()


def test_times_that_are_too_short_are_raised_and_that_is_said() -> None:
    given = {"SKYCLAW_GATEWAY_HEALTH_TIMEOUT_MS": "1", "SKYCLAW_GATEWAY_UNHEALTHY_COOLDOWN_MS": "999"}
    settings = gateway_settings({**BARE, **given})
    assert (settings.probe_timeout_ms, settings.cooldown_ms) == (500, 1_000)
    assert settings.warnings == (
        "SKYCLAW_GATEWAY_HEALTH_TIMEOUT_MS=1 is taken as 500, the least there is",
        "SKYCLAW_GATEWAY_UNHEALTHY_COOLDOWN_MS=999 is taken as 1000, the least there is",
    )


def test_only_a_path_that_somebody_chose_must_be_known_to_every_backend() -> None:
    assert gateway_settings(BARE).own_health_path is None
    assert gateway_settings({**BARE, "SKYCLAW_GATEWAY_HEALTH_PATH": "/health"}).own_health_path is None
    assert gateway_settings({**BARE, "SKYCLAW_GATEWAY_HEALTH_PATH": "/up"}).own_health_path == "/up"


def test_both_live_tokens_are_kept_from_services_and_shown_to_nobody() -> None:
    settings = gateway_settings({**BARE, "SKYCLAW_TOKEN": "new-token,old-token"})
    assert settings.tokens == ("new-token", "old-token")
    assert "token" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SKYCLAW_GATEWAY_PORT", "-1"),
        ("SKYCLAW_GATEWAY_PORT", "65536"),
        ("SKYCLAW_GATEWAY_WORKERS", "0"),
        ("SKYCLAW_GATEWAY_WORKERS", "65"),
        ("SKYCLAW_GATEWAY_REFRESH_MS", "9"),
        ("SKYCLAW_GATEWAY_HEALTH_PROBE_MS", "soon"),
        ("SKYCLAW_GATEWAY_HEALTH_TIMEOUT_MS", "0"),
        ("SKYCLAW_GATEWAY_UNHEALTHY_COOLDOWN_MS", "0"),
        ("SKYCLAW_GATEWAY_RETRY_ATTEMPTS", "11"),
        ("SKYCLAW_GATEWAY_HEALTH_PATH", "health"),
        ("SKYCLAW_GATEWAY_HEALTH_PATH", "/a b"),
        ("SKYCLAW_GATEWAY_HEALTH_PATH", "/a#b"),
        ("SKYCLAW_GATEWAY_HEALTH_PATH", "/\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("SKYCLAW_GATEWAY_HEALTH_PATH", "/" + "x" * 1_024),
        ("SKYCLAW_LOG", "xml"),
        ("SKYCLAW_TRUST", "open"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsWrong, match=f"^{name}="):
        gateway_settings({**BARE, name: value})


def test_an_authorities_file_must_hold_one(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing", encoding="ascii")
    with pytest.raises(SettingsWrong, match="it holds no certificate"):
        gateway_settings({**BARE, "SKYCLAW_CA_FILE": str(file)})
