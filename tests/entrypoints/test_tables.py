"""Tables on a terminal of this or that width: what must be read stays whole, the rest gives way."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from skyclaw.entrypoints import rendering
from tests.entrypoints.conftest import Served

JOB = "job_aaaaaaaa-1111-4222-8333-444444444444"
HOST = "host_bbbbbbbb-1111-4222-8333-444444444444"
WIDTHS = (60, 80, 100, 120)


def on_a_terminal(width: int, words: tuple[str, ...], env: dict[str, str], cwd: Path) -> list[str]:
    """The lines of a command on a terminal of that width, without colours."""
    own, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    clean = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-m", "skyclaw", *words], cwd=cwd, env=clean, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    try:
        while piece := os.read(own, 65_536):
            seen += piece
    except OSError:  # the other end is closed
        pass
    assert process.wait(30) == 0
    os.close(own)
    return re.sub(r"\x1b\[[0-9;]*m", "", seen.decode()).splitlines()


@pytest.fixture
def env(served: Served, environ: dict[str, str]) -> dict[str, str]:
    served.small.add_host(HOST, "a-kitchen-machine-with-a-long-name", capabilities=["shell", "openclaw", "service-host", "gpu"])
    payload = {"kind": "shell", "command": "bash", "args": ["-lc", "echo " + "long " * 30]}
    served.small.add_job(JOB, "completed", assignedHostId=HOST, result={"exitCode": 137}, payload=payload)
    return {**environ, "SKYCLAW_COORDINATOR_URL": served.url}


@pytest.mark.parametrize("width", WIDTHS)
def test_jobs_keep_id_and_status_whole_on_one_line_each(width: int, env: dict[str, str], tmp_path: Path) -> None:
    lines = on_a_terminal(width, ("jobs",), env, tmp_path)
    assert len(lines) == 2
    assert max(map(len, lines)) <= width
    assert lines[1].split()[:2] == [JOB, "completed"]
    assert lines[1].split()[3] == "137"
    assert ("a-kit" in lines[1]) == (width >= 80)
    assert ("bash" in lines[1]) == (width >= 80)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("words", [("hosts",), ("status",)])
def test_hosts_keep_their_state_and_numbers_whole(width: int, words: tuple[str, ...], env: dict[str, str], tmp_path: Path) -> None:
    lines = on_a_terminal(width, words, env, tmp_path)
    row = next(line for line in lines if line.startswith("host_"))
    assert len(row) <= width
    assert re.search(r" active +1/2 ", row)
    assert row.startswith("host_bbbbbbbb")
    assert re.search(r"a-kit", row)
    if width < 100:
        assert row.split()[0] == "host_bbbbbbbb\N{HORIZONTAL ELLIPSIS}"


@pytest.mark.parametrize("width", WIDTHS)
def test_config_stays_one_line_for_each_setting(width: int, env: dict[str, str], tmp_path: Path) -> None:
    lines = on_a_terminal(width, ("config",), env, tmp_path)
    assert max(map(len, lines)) <= width
    assert all(re.match(r"SETTING|SKYCLAW_[A-Z_]+ ", line) for line in lines)
    assert next(line for line in lines if line.startswith("SKYCLAW_POLL_MS")).split() == ["SKYCLAW_POLL_MS", "2000", "default"]


def test_columns_yield_in_order_then_the_gap_then_they_go() -> None:
    needed, yielding = {"ID": 10, "STATUS": 6, "HOST": 10, "WORK": 30}, {"WORK": 8, "HOST": 6}
    assert rendering.fitted(needed, 62, yielding) == (needed, 2)
    assert rendering.fitted(needed, 52, yielding) == ({**needed, "WORK": 20}, 2)
    assert rendering.fitted(needed, 38, yielding) == ({**needed, "WORK": 8, "HOST": 8}, 2)
    assert rendering.fitted(needed, 33, yielding) == ({**needed, "WORK": 8, "HOST": 6}, 1)
    assert rendering.fitted(needed, 32, yielding) == ({"ID": 10, "STATUS": 6, "HOST": 6}, 1)
    assert rendering.fitted(needed, 10, yielding) == ({"ID": 10, "STATUS": 6}, 1)


def test_the_first_column_yields_but_never_goes() -> None:
    assert rendering.fitted({"HOST": 41, "STATE": 6}, 10, {"HOST": 14}) == ({"HOST": 14, "STATE": 6}, 1)
