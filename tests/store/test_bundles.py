"""Bundles as files: whole or not at all, and not for ever."""

import errno
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from skyclaw.errors import StorageFailed, StorageFull
from skyclaw.store.bundles import ABANDONED_S, UNUSED_MS, BadBundle, BundleFiles

DATA = b"a bundle " * 1000
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """It does not exist yet."""
    return tmp_path / "bundles"


@pytest.fixture
def files(folder: Path) -> BundleFiles:
    return BundleFiles(folder, 10_000)


def pieces(data: bytes = DATA) -> Iterator[bytes]:
    yield from (data[at : at + 700] for at in range(0, len(data), 700))


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_bundle_is_kept_for_its_owner_alone(files: BundleFiles, folder: Path) -> None:
    assert files.size(SHA) is None
    assert files.write(SHA, pieces(), len(DATA)) == files.size(SHA) == len(DATA)
    assert stat.S_IMODE((folder / SHA).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with files.open(SHA) as file:
        assert file.read() == DATA


def test_a_bundle_outlives_its_process(files: BundleFiles, folder: Path) -> None:
    files.write(SHA, pieces(), len(DATA))
    assert BundleFiles(folder, 10_000).size(SHA) == len(DATA)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"", b"x" * 20_000])
def test_what_its_name_does_not_mean_leaves_nothing(files: BundleFiles, folder: Path, data: bytes) -> None:
    with pytest.raises(BadBundle):
        files.write(SHA, pieces(data), len(data))
    assert names(folder) == []


def test_what_is_larger_than_it_may_be_is_not_read_to_its_end(files: BundleFiles, folder: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(BadBundle, match="at most 10000 bytes"):
        files.write(SHA, endless(), 0)
    assert names(folder) == []


def test_a_writer_that_stops_leaves_nothing(files: BundleFiles, folder: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA[:100]
        raise RuntimeError("the other side is gone")

    with pytest.raises(RuntimeError):
        files.write(SHA, broken(), len(DATA))
    assert names(folder) == []


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageFailed)])
def test_a_disk_that_does_not_take_it_is_told_of(
    files: BundleFiles, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error):
        files.write(SHA, pieces(), len(DATA))
    assert names(folder) == []


def test_the_room_that_the_database_needs_is_left(files: BundleFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(60 * 1024 * 1024))
    with pytest.raises(StorageFull):
        files.write(SHA, pieces(), len(DATA))


def test_several_may_write_the_same_bundle_at_once(files: BundleFiles, folder: Path) -> None:
    begun = threading.Barrier(4)

    def together() -> Iterator[bytes]:
        begun.wait(10)
        yield from pieces()

    writers = [threading.Thread(target=files.write, args=(SHA, together(), len(DATA))) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(10)
    assert names(folder) == [SHA]
    assert files.size(SHA) == len(DATA)


def test_what_nobody_has_used_for_an_hour_is_deleted(files: BundleFiles) -> None:
    files.write(SHA, pieces(), len(DATA))
    files.write(OTHER, pieces(b"other"), 5)
    assert files.prune({OTHER}, 0) == 0
    assert files.prune({OTHER}, UNUSED_MS - 1) == 0
    assert files.prune({OTHER}, UNUSED_MS) == 1
    assert (files.size(SHA), files.size(OTHER)) == (None, 5)


@pytest.mark.parametrize("used_again", ["needed", "touched", "written"])
def test_the_hour_begins_again_with_each_use(files: BundleFiles, used_again: str) -> None:
    files.write(SHA, pieces(), len(DATA))
    files.prune((), 0)
    if used_again == "needed":
        files.prune({SHA}, 1)
    elif used_again == "touched":
        files.touch(SHA)
    else:
        files.write(SHA, pieces(), len(DATA))
    assert files.prune((), UNUSED_MS) == 0
    assert files.prune((), UNUSED_MS * 2) == 1


def test_what_a_killed_process_has_left_is_removed_and_what_another_one_writes_is_not(files: BundleFiles, folder: Path) -> None:
    files.write(SHA, pieces(), len(DATA))
    for name, age_s in (("old.part", ABANDONED_S + 60), ("new.part", 0)):
        (folder / name).write_bytes(b"x")
        when = (folder / name).stat().st_mtime - age_s
        os.utime(folder / name, (when, when))
    BundleFiles(folder, 10_000)
    assert names(folder) == sorted([SHA, "new.part"])


@pytest.mark.parametrize("name", ["../x", "", SHA.upper(), SHA[:-1], SHA + "0", "/etc/passwd"])
def test_no_other_name_is_a_bundle(files: BundleFiles, name: str) -> None:
    calls: list[Any] = [files.size, files.open, lambda one: files.write(one, pieces(), 1)]
    for call in calls:
        with pytest.raises(BadBundle):
            call(name)


def test_other_files_in_the_folder_are_left_alone(files: BundleFiles, folder: Path) -> None:
    files.write(SHA, pieces(), len(DATA))
    (folder / "notes").write_text("mine", encoding="ascii")
    files.prune((), 0)
    files.prune((), UNUSED_MS)
    assert names(folder) == ["notes"]
