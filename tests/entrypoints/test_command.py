"""The command as a process of its own: exit codes, streams, foreign folders, what it imports."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.entrypoints.conftest import Served

Spawn = Callable[..., "subprocess.CompletedProcess[bytes]"]
CONSOLE_SCRIPT = Path(sys.executable).parent / "skyclaw"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["statsu"], 2, b"unknown command: statsu; did you mean status?"),
        (["enqueue-shell"], 2, b"enqueue-shell requires a command"),
        (["enqueue-shell", "--foo", "x"], 2, b"--foo"),
        (["run", "echo", b"\xff\xfe"], 2, b"argument 3 is not UTF-8 text: '\\udcff\\udcfe'"),
        (["status"], 5, b"http://127.0.0.1:1 (connection refused)"),
        (["host", "extra"], 2, b"host takes no words"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_code(spawn: Spawn, words: list[str | bytes], code: int, says: bytes) -> None:
    done = spawn(*words, settings={"SKYCLAW_COORDINATOR_URL": "http://127.0.0.1:1"})
    assert (done.returncode, done.stdout) == (code, b"")
    assert says in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"[skyclaw] ")


@pytest.mark.parametrize("verb", ["coordinator", "host"])
def test_a_process_with_a_wrong_setting_exits_3_before_it_starts(spawn: Spawn, verb: str) -> None:
    done = spawn(verb, settings={"SKYCLAW_TRUST": "open"})
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"SKYCLAW_TRUST=open" in done.stderr


@pytest.mark.parametrize("program", [("-m", "skyclaw"), (str(CONSOLE_SCRIPT),)])
def test_it_works_in_a_folder_with_packages_of_the_same_names(
    spawn: Spawn, served: Served, tmp_path: Path, program: tuple[str, ...]
) -> None:
    for name in ("api", "actors", "json", "requests", *(["skyclaw"] if program[0] != "-m" else [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the wrong {name}')")
    done = spawn("enqueue-shell", "true", program=program, settings={"SKYCLAW_COORDINATOR_URL": served.url})
    assert (done.returncode, done.stderr) == (0, b"")
    done = spawn("coordinator", program=program, settings={"SKYCLAW_COORDINATOR_PORT": "x"})
    assert b"SKYCLAW_COORDINATOR_PORT=x" in done.stderr


def test_it_works_in_a_folder_that_was_deleted(spawn: Spawn) -> None:
    script = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); os.execv(sys.argv[1], sys.argv[1:])"
    done = spawn("--version", program=(sys.executable, "-c", script, str(CONSOLE_SCRIPT)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"skyclaw ")


def test_a_reader_that_goes_away_is_no_error_worth_a_word(environ: dict[str, str], served: Served, tmp_path: Path) -> None:
    for number in range(900):
        served.small.add_job(f"job_aaaaaaaa-0000-4000-8000-{number:012}")
    own, its = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "skyclaw", "jobs", "--all"],
        cwd=tmp_path,
        env={**environ, "SKYCLAW_COORDINATOR_URL": served.url},
        stdout=its,
        stderr=subprocess.PIPE,
    )
    os.close(its)
    os.close(own)
    assert process.communicate(timeout=30)[1] == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_answer_that_cannot_be_written_is_said(environ: dict[str, str], tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "skyclaw", "--help"],
            cwd=tmp_path,
            env=environ,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    assert done.returncode == 1
    assert done.stderr == b"[skyclaw] the answer could not be written: No space left on device\n"


def test_a_closed_stdout_does_not_stop_a_job_from_being_enqueued(environ: dict[str, str], served: Served, tmp_path: Path) -> None:
    command = f"exec '{sys.executable}' -m skyclaw enqueue-shell true >&-"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env={**environ, "SKYCLAW_COORDINATOR_URL": served.url},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert b"Traceback" not in done.stderr
    assert len(served.small.posted) == 1


def test_a_client_command_does_not_import_the_server_half(spawn: Spawn, served: Served) -> None:
    script = """
import json, os, sys
from skyclaw.entrypoints import cli
code = cli.main(["enqueue-shell", "true"], os.environ)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
sys.exit(code)
"""
    done = spawn(program=(sys.executable, "-c", script), settings={"SKYCLAW_COORDINATOR_URL": served.url})
    assert done.returncode == 0
    loaded = set(json.loads(done.stderr))
    assert loaded & {"falcon", "sqlmodel", "sqlalchemy", "pykka", "waitress", "rich", "actors", "api", "sqlite3"} == set()
    assert {"fire", "environs", "requests"} <= loaded


def test_the_help_imports_nothing_that_costs_time(spawn: Spawn) -> None:
    script = """
import json, os, sys
from skyclaw.entrypoints import cli
code = cli.main([], os.environ)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    loaded = set(json.loads(spawn(program=(sys.executable, "-c", script)).stderr))
    assert loaded & {"fire", "environs", "marshmallow", "requests", "orjson", "rich"} == set()
