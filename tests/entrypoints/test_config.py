"""`skyclaw config`: every setting with its value and where it is from."""

import json
import os
from pathlib import Path

from skyclaw.entrypoints import dev_file
from skyclaw.entrypoints.setting_names import KNOWN
from tests.entrypoints.conftest import Call


def rows(out: str) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(out)["settings"]}


def test_every_setting_is_listed_with_its_origin(call: Call) -> None:
    said = call("config", "--json", SKYCLAW_LEASE_MS="5000")
    found = rows(said.out)
    assert said.code == 0
    assert list(found) == list(KNOWN)
    assert found["SKYCLAW_LEASE_MS"] == {"name": "SKYCLAW_LEASE_MS", "value": "5000", "from": "environment", "used": True}
    assert found["SKYCLAW_POLL_MS"] == {"name": "SKYCLAW_POLL_MS", "value": "2000", "from": "default", "used": True}
    assert found["SKYCLAW_GATEWAY_ENGINE"]["used"] is False


def test_secrets_are_hidden_wherever_they_are_from(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hush-hush-hush-hush")
    file.chmod(0o600)
    for settings in ({"SKYCLAW_TOKEN": "hush-hush-hush-hush"}, {"SKYCLAW_TOKEN_FILE": str(file)}):
        said = call("config", "--json", SKYCLAW_DATABASE_URL="postgresql://u:hush@db/x", **settings)
        found = rows(said.out)
        assert "hush" not in said.out + said.err
        assert found["SKYCLAW_TOKEN"]["value"] == found["SKYCLAW_DATABASE_URL"]["value"] == "set (hidden)"
        assert found["SKYCLAW_TOKEN"]["from"] == ("file" if "SKYCLAW_TOKEN_FILE" in settings else "environment")
        assert found["SKYCLAW_COORDINATOR_HOST"]["value"] == "0.0.0.0"  # noqa: S104


def test_a_running_dev_shows_as_the_coordinator_in_force(call: Call, environ: dict[str, str]) -> None:
    dev_file.write(Path(environ["SKYCLAW_HOME"]), dev_file.DevNote("http://127.0.0.1:9", "hush-hush-hush-hush", os.getpid()))
    said = call("config", "--json", SKYCLAW_COORDINATOR_URL="")
    found = rows(said.out)
    assert (found["SKYCLAW_COORDINATOR_URL"]["value"], found["SKYCLAW_COORDINATOR_URL"]["from"]) == ("http://127.0.0.1:9", "file")
    assert (found["SKYCLAW_TOKEN"]["value"], found["SKYCLAW_TOKEN"]["from"]) == ("set (hidden)", "file")
    assert "hush" not in said.out


def test_the_table_says_what_this_version_does_not_use(call: Call) -> None:
    said = call("config", SKYCLAW_GATEWAY_ENGINE="haproxy")
    line = next(line for line in said.out.splitlines() if line.startswith("SKYCLAW_GATEWAY_ENGINE"))
    assert line.split(None, 2)[1:] == ["haproxy", "environment (not used by this version)"]


def test_a_wrong_setting_is_shown_and_then_refused(call: Call) -> None:
    said = call("config", SKYCLAW_LEASE_MS="soon", SKYCLAW_POLL_MS="later", SKYCLAW_TOKNE="x")
    assert said.code == 3
    assert "SKYCLAW_LEASE_MS" in said.out
    assert said.err.splitlines() == [
        "[skyclaw] warning: unknown setting SKYCLAW_TOKNE; did you mean SKYCLAW_TOKEN?",
        "[skyclaw] SKYCLAW_LEASE_MS=soon must be a whole number from 100 to 86400000; "
        "SKYCLAW_POLL_MS=later must be a whole number from 1 to 86400000",
    ]
