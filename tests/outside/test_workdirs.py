import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skyclaw.errors import StartRefused
from skyclaw.outside import workdirs
from skyclaw.outside.removing import removed
from skyclaw.outside.workdirs import Homes, cwd_inside, fresh_directory, private_parent
from tests.support.executors import until


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


# Fresh directories.


def test_a_fresh_directory_is_empty_and_private(tmp_path: Path) -> None:
    path = fresh_directory(str(tmp_path), "jobs-")
    assert Path(path).name.startswith("jobs-")
    assert (mode_of(path), os.listdir(path)) == (0o700, [])


@pytest.mark.parametrize("obstacle", ["symlink", "full directory", "empty directory", "file", "dangling symlink"])
def test_what_is_there_already_is_never_taken_for_a_fresh_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str) -> None:
    names = iter([b"\1" * 8, b"\1" * 8, b"\2" * 8])
    monkeypatch.setattr(workdirs.os, "urandom", lambda _: next(names))
    taken, victim = tmp_path / ("01" * 8), tmp_path / "victim"
    victim.mkdir()
    match obstacle:
        case "symlink":
            taken.symlink_to(victim)
        case "dangling symlink":
            taken.symlink_to("/no/where")
        case "file":
            taken.write_text("")
        case _:
            taken.mkdir()
            if obstacle == "full directory":
                (taken / "planted").write_text("")
    assert fresh_directory(str(tmp_path)) == f"{tmp_path}/{'02' * 8}"
    assert not list(victim.iterdir())


def test_no_free_name_is_an_error_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workdirs.os, "urandom", lambda _: b"\1" * 8)
    fresh_directory(str(tmp_path))
    with pytest.raises(FileExistsError):
        fresh_directory(str(tmp_path))


@pytest.mark.parametrize(("passable", "mode"), [(False, 0o700), (True, 0o711)])
def test_the_hosts_own_directory_is_made_and_kept_private(tmp_path: Path, passable: bool, mode: int) -> None:
    for _ in range(2):
        private_parent(tmp_path / "a/b", passable)
        assert mode_of(tmp_path / "a/b") == mode
        (tmp_path / "a/b").chmod(0o777)


def test_a_file_in_the_place_of_the_hosts_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused):
        private_parent(tmp_path / "file", passable=False)


# Where a job starts.


def test_the_directory_of_a_job_is_its_own_one_below_it_or_the_allowed_one(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert cwd_inside(home, None) == home
    assert cwd_inside(home, "/somewhere") == "/somewhere"
    assert cwd_inside(home, "a/b") == f"{home}/a/b"
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize("cwd", ["..", "a/..", "../../x"])
def test_a_relative_directory_that_leads_out_is_refused(tmp_path: Path, cwd: str) -> None:
    with pytest.raises(PermissionError, match="cwd not allowed"):
        cwd_inside(str(tmp_path), cwd)
    assert not list(tmp_path.iterdir())


# Using them again.


def ripe(monkeypatch: pytest.MonkeyPatch, homes: Homes) -> workdirs.Home:
    """A directory that is old enough to be used again, without waiting until it is."""
    first = homes.take()
    assert not homes.keep(first)
    late = time.monotonic() + 2.1
    monkeypatch.setattr(workdirs.time, "monotonic", lambda: late)
    home = homes.take()
    assert home.path != first.path
    until(lambda: time.time_ns() - home.ctime_ns > 20_000_000)  # the kernel's clock has ticked since
    return home


def test_a_directory_that_nobody_touched_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = Homes(str(tmp_path))
    home = ripe(monkeypatch, homes)
    os.listdir(home.path)
    assert homes.keep(home)
    assert homes.take().path == home.path


TOUCHES: dict[str, Callable[[str], object]] = {
    "a file that is gone again": lambda path: (Path(path, "x").write_text("x"), Path(path, "x").unlink()),
    "a file": lambda path: Path(path, "x").write_text("x"),
    "another mode and back": lambda path: (os.chmod(path, 0o600), os.chmod(path, 0o700)),
    "another time": lambda path: os.utime(path, (1, 1)),
    "its own times set to what they were": lambda path: os.utime(path, ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns)),
    "an attribute": lambda path: os.setxattr(path, "user.x", b"y"),
    "moved away and back": lambda path: (os.rename(path, f"{path}x"), os.rename(f"{path}x", path)),
    "another one in its place": lambda path: (os.rmdir(path), os.mkdir(path, 0o700)),
    "a symlink in its place": lambda path: (os.rmdir(path), os.symlink("/", path)),
    "nothing in its place": os.rmdir,
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_directory_that_was_touched_is_never_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touch: str) -> None:
    homes = Homes(str(tmp_path))
    home = ripe(monkeypatch, homes)
    TOUCHES[touch](home.path)
    assert not homes.keep(home)
    assert homes.take().path != home.path


def test_a_directory_is_not_used_again_before_its_time_would_show_a_touch(tmp_path: Path) -> None:
    homes = Homes(str(tmp_path))
    taken = [homes.take() for _ in range(100)]
    assert not any(homes.keep(home) for home in taken)
    assert not homes.take().ripe
    homes.close()


def test_spare_directories_are_few_and_gone_in_the_end(tmp_path: Path) -> None:
    homes = Homes(str(tmp_path))
    for _ in range(200):
        home = homes.take()
        homes.keep(home)
        removed(home.path)
    assert len(list(tmp_path.iterdir())) == 64
    homes.close()
    assert not list(tmp_path.iterdir())
