"""`skyclaw config`: every setting, the value in force, and where it is from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skyclaw.entrypoints import dev_file, rendering, settings
from skyclaw.entrypoints.gateway_settings import gateway_settings
from skyclaw.entrypoints.session import Session
from skyclaw.entrypoints.setting_names import KNOWN, Setting, unknown_names
from skyclaw.entrypoints.setting_values import shortened
from skyclaw.errors import SettingsWrong

HIDDEN = "set (hidden)"
TOKEN_FILES = ("SKYCLAW_TOKEN_FILE", "SKYCLAW_PEER_TOKEN_FILE")
ROLES: tuple[Callable[[Mapping[str, str]], Any], ...] = (
    settings.client_settings,
    settings.coordinator_settings,
    settings.host_settings,
    gateway_settings,
    settings.debug,
)


def config(session: Session, words: Sequence[str], json: bool = False) -> int:  # noqa: ARG001
    """Print all settings; raises SettingsWrong after that when one of them is wrong."""
    rows = [_row(setting, session.environ) for setting in KNOWN.values()]
    if json:
        rendering.show_json({"settings": rows})
    else:
        shown = [(row["name"], row["value"] or "-", _origin(row)) for row in rows]
        rendering.show_table(("SETTING", "VALUE", "FROM"), shown, {"FROM": 11, "VALUE": 9})
    rendering.warn(unknown_names(session.environ))
    if wrong := problems(session.environ):
        raise SettingsWrong("; ".join(wrong))
    return 0


def problems(environ: Mapping[str, str]) -> list[str]:
    """What the roles would refuse to start with, each once."""
    found = []
    for read in ROLES:
        try:
            read(environ)
        except SettingsWrong as wrong:
            found.append(str(wrong))
    return list(dict.fromkeys(found))


def _row(setting: Setting, environ: Mapping[str, str]) -> dict[str, Any]:
    value, origin = _value(setting, environ)
    shown = HIDDEN if value and setting.secret else shortened(value)
    return {"name": setting.name, "value": shown, "from": origin, "used": setting.used}


def _value(setting: Setting, environ: Mapping[str, str]) -> tuple[str, str]:
    """The value in force and its origin."""
    if f"{setting.name}_FILE" in TOKEN_FILES and environ.get(f"{setting.name}_FILE", "").strip():
        return HIDDEN, "file"
    if environ.get(setting.name, "").strip():
        return environ[setting.name].strip(), "environment"
    found = _running_dev(environ)
    if found and setting.name == "SKYCLAW_COORDINATOR_URL":
        return found.url, "file"
    if found and setting.name == "SKYCLAW_TOKEN":
        return HIDDEN, "file"
    if setting.name == "SKYCLAW_COORDINATOR_HOST":
        has_token = any(environ.get(name, "").strip() for name in ("SKYCLAW_TOKEN", "SKYCLAW_TOKEN_FILE"))
        return ("0.0.0.0" if has_token else "127.0.0.1"), "default"  # noqa: S104 only shown
    return setting.default, "default"


def _running_dev(environ: Mapping[str, str]) -> dev_file.DevNote | None:
    """The dev that commands would talk to."""
    try:
        client = settings.client_settings(environ)
    except SettingsWrong:
        return None
    return dev_file.living(client.home) if client.source == "dev" else None


def _origin(row: Mapping[str, Any]) -> str:
    return str(row["from"]) if row["used"] else f"{row['from']} (not used by this version)"
