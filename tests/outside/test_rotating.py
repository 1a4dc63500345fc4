"""The output of services in files."""

import os
import re
import threading
from pathlib import Path

import pytest

from skyclaw.outside.rotating import Rotating, end, read
from tests.support.ordinary_user import ordinary_user


def parts(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def all_of(folder: Path, at: int = 0) -> bytes:
    """What is kept from an offset on, read in odd pieces."""
    found = b""
    while (got := read(folder, at, 7))[1]:
        found, at = found + got[1], got[0] + len(got[1])
    return found


# Writing.


def test_what_was_written_is_read_from_any_offset(tmp_path: Path) -> None:
    files = Rotating(tmp_path, 10)
    files.write(b"hello ")
    files.write(b"world")
    assert read(tmp_path, 0, 100) == (0, b"hello world")
    assert read(tmp_path, 4, 4) == (4, b"o wo")
    assert read(tmp_path, 10, 100) == (10, b"d")
    assert read(tmp_path, 11, 100) == (11, b"")
    assert read(tmp_path, 500, 100) == (500, b"")
    assert read(tmp_path, 1 << 70, 100) == (1 << 70, b"")
    assert end(tmp_path) == files.at == 11


def test_the_oldest_parts_are_deleted(tmp_path: Path) -> None:
    files = Rotating(tmp_path, 10, 3)
    text = bytes(range(48, 48 + 55))
    files.write(text)
    assert parts(tmp_path) == {"output.log.000000000000030": 10, "output.log.000000000000040": 10, "output.log.000000000000050": 5}
    assert read(tmp_path, 0, 100) == (30, text[30:])
    assert all_of(tmp_path) == text[30:]


def test_one_part_is_enough(tmp_path: Path) -> None:
    Rotating(tmp_path, 10, 1).write(b"x" * 25)
    assert parts(tmp_path) == {"output.log.000000000000020": 5}


def test_a_writer_goes_on_where_the_one_before_it_ended(tmp_path: Path) -> None:
    for word in (b"first ", b"second ", b"third "):
        Rotating(tmp_path, 10).write(word)
    assert all_of(tmp_path) == b"first second third "
    assert len(parts(tmp_path)) == 2


def test_nothing_has_been_written_yet(tmp_path: Path) -> None:
    assert read(tmp_path, 0, 10) == (0, b"")
    assert (end(tmp_path), Rotating(tmp_path, 10).at) == (0, 0)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    Rotating(tmp_path, 10).write(b"secret")
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Rotating(tmp_path / "none", 10)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none", 0, 10)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with ordinary_user() as folder:
        folder.chmod(0o500)
        with pytest.raises(PermissionError):
            Rotating(folder, 10)


# When the disk does not take it, or somebody meddles.


def test_what_the_disk_does_not_take_is_lost_but_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of a write, and has room again later."""
    files = Rotating(tmp_path, 100)
    files.write(b"before ")
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda file, data, at: real(file, data[:3], at) if len(data) > 7 else full())
        files.write(b"half of it")
        patch.setattr(os, "pwrite", lambda *_: full())
        files.write(b"nothing of it")
    files.write(b"after")
    assert files.at == 35
    assert read(tmp_path, 0, 100) == (0, b"before hal")
    assert read(tmp_path, 10, 100) == (30, b"after")
    assert parts(tmp_path) == {"output.log.000000000000000": 10, "output.log.000000000000030": 5}


def full() -> int:
    raise OSError(28, "No space left on device")


def test_a_full_disk_costs_at_most_one_part_of_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Rotating(tmp_path, 10, 3)
    files.write(b"x" * 30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: full())
        for _ in range(20):
            files.write(b"y" * 10)
    assert parts(tmp_path) == {"output.log.000000000000010": 10, "output.log.000000000000020": 10}


def test_output_goes_on_when_its_file_or_its_folder_was_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    files = Rotating(folder, 100)
    files.write(b"one ")
    next(folder.iterdir()).unlink()
    files.write(b"two ")
    files.write(b"three ")
    assert read(folder, 0, 100) == (8, b"three ")
    next(folder.iterdir()).unlink()
    folder.rmdir()
    files.write(b"four ")
    folder.mkdir()
    files.write(b"five")
    assert read(folder, 0, 100) == (19, b"five")


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "folder", "other names"])
def test_what_a_service_puts_into_the_folder_is_not_read(tmp_path: Path, kind: str) -> None:
    folder, secret = tmp_path / "output", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("secret")
    trap = folder / "output.log.000000000000000"
    match kind:
        case "symlink":
            trap.symlink_to(secret)
        case "hard link":
            os.link(secret, trap)
        case "pipe":
            os.mkfifo(trap)
        case "folder":
            trap.mkdir()
        case _:
            for name in ("output.log", "output.log.1", "output.log.00000000000000x", "xoutput.log.000000000000000"):
                (folder / name).write_text("secret")
    assert read(folder, 0, 100)[1] == b""


def test_a_writer_does_not_write_through_a_link(tmp_path: Path) -> None:
    folder, victim = tmp_path / "output", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("")
    (folder / "output.log.000000000000000").symlink_to(victim)
    files = Rotating(folder, 1_000)
    files.write(b"x" * 100)
    files.write(b"y" * 100)
    assert victim.read_text() == ""


# Both at once.


def test_a_reader_never_gets_wrong_bytes_while_the_writer_rotates_at_full_speed(tmp_path: Path) -> None:
    """The output is a sequence of numbers, each at the offset that follows from it."""
    stop = threading.Event()

    def write() -> None:
        files, number = Rotating(tmp_path, 4_096, 3), 0
        while not stop.is_set():
            files.write(b"".join(b"%09d\n" % n for n in range(number, number + 50)))
            number += 50

    writer = threading.Thread(target=write)
    writer.start()
    try:
        at = skipped = looks = 0
        while looks < 3_000 or not skipped:
            looks += 1
            asked = at
            at, data = read(tmp_path, asked, 1_000 + looks % 5_000)
            assert at >= asked
            skipped += at > asked
            expected = b"".join(b"%09d\n" % n for n in range(at // 10, (at + len(data)) // 10 + 1))
            assert data == expected[at % 10 :][: len(data)]
            at += len(data)
    finally:
        stop.set()
        writer.join()
    assert all(re.fullmatch(r"output\.log\.\d{15}", name) for name in parts(tmp_path))
    assert len(parts(tmp_path)) == 3
