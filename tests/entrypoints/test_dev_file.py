"""The note by which commands find a running dev."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skyclaw.entrypoints import dev_file
from skyclaw.entrypoints.dev_file import DevNote


def test_a_note_is_read_back_while_its_process_lives(tmp_path: Path) -> None:
    note = DevNote("http://127.0.0.1:1", "t", os.getpid())
    dev_file.write(tmp_path / "home", note)
    assert dev_file.living(tmp_path / "home") == note


def test_only_its_owner_can_read_it_whatever_was_there_before(tmp_path: Path) -> None:
    (tmp_path / dev_file.NAME).write_text("{}")
    (tmp_path / dev_file.NAME).chmod(0o644)
    dev_file.write(tmp_path, DevNote("u", "t", os.getpid()))
    assert stat.S_IMODE((tmp_path / dev_file.NAME).stat().st_mode) == 0o600


def test_the_note_of_a_dead_process_does_not_count(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dev_file.write(tmp_path, DevNote("u", "t", process.pid))
    assert dev_file.living(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"url": "u", "token": "t", "pid": "x"}', '{"url": "u", "token": "t", "pid": 0}', "\xff"]
)
def test_a_damaged_note_does_not_count(tmp_path: Path, text: str) -> None:
    (tmp_path / dev_file.NAME).write_text(text, encoding="latin-1")
    assert dev_file.living(tmp_path) is None


def test_a_removed_note_is_gone_and_may_be_removed_again(tmp_path: Path) -> None:
    dev_file.write(tmp_path, DevNote("u", "t", os.getpid()))
    dev_file.remove(tmp_path)
    dev_file.remove(tmp_path)
    assert dev_file.living(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
