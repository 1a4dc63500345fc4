"""What `skyclaw doctor` finds on this machine: Python, packages, folders, disk, commands, the database file."""

import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from skyclaw.entrypoints.settings import coordinator_settings, home, host_settings
from skyclaw.errors import DatabaseUnusable, SettingsWrong

OK, WARN, FAIL = "ok", "warn", "fail"
PYTHON = (3, 11)
LOW_BYTES, TIGHT_BYTES = 100 * 1024**2, 1024**3
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor; `next` is what to type, when there is something to do."""

    level: str
    check: str
    text: str
    next: str = ""


def machine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All findings that need no coordinator. What needs settings that are wrong is left out: the settings have their own finding."""
    yield python()
    yield packages()
    yield writable(home(environ))
    with contextlib.suppress(SettingsWrong):
        yield commands(host_settings(environ).allowed_commands, environ.get("PATH"))
    with contextlib.suppress(SettingsWrong):
        coordinator = coordinator_settings(environ)
        yield space(coordinator.db_path)
        if coordinator.database_url is None:
            yield database(coordinator.db_path)


def python() -> Finding:
    """The version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        return Finding(FAIL, "python", f"{version} is too old", "install Python 3.11 or newer")
    return Finding(OK, "python", version)


def packages() -> Finding:
    """Whether everything Skyclaw needs is installed, and new enough."""
    try:
        needed = [found.groups() for text in metadata.requires("skyclaw") or () if (found := _REQUIREMENT.fullmatch(text))]
    except metadata.PackageNotFoundError:
        return Finding(WARN, "packages", "skyclaw is not installed, it runs from its source", "python3 -m pip install .")
    lacking = [f"{name}>={least}" for name, least in needed if not _installed(name, least)]
    if lacking:
        return Finding(FAIL, "packages", f"missing or too old: {', '.join(lacking)}", "python3 -m pip install --upgrade skyclaw")
    return Finding(OK, "packages", f"all {len(needed)} installed")


def _installed(name: str, least: str) -> bool:
    try:
        return _numbers(metadata.version(name)) >= _numbers(least)
    except metadata.PackageNotFoundError:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"[0-9]+", version.split("+")[0])[:3])


def writable(folder: Path) -> Finding:
    """Whether files can be made in the home folder, or it can be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(FAIL, "home", f"{folder} cannot be written: {error.strerror}", "set SKYCLAW_HOME to a folder of your own")
    return Finding(OK, "home", f"{folder} is writable")


def commands(allowed: tuple[str, ...], path: str | None) -> Finding:
    """Whether the commands that jobs may run here are installed."""
    missing = [name for name in allowed if shutil.which(name, path=path) is None]
    if len(missing) == len(allowed):
        return Finding(WARN, "commands", "no allowed command is installed: a host here runs nothing", "set SKYCLAW_ALLOWED_COMMANDS")
    if missing:
        return Finding(WARN, "commands", f"not installed: {', '.join(missing)}", "install them, or name others in SKYCLAW_ALLOWED_COMMANDS")
    return Finding(OK, "commands", f"all found: {', '.join(allowed)}")


def space(database_file: Path) -> Finding:
    """The room left where the database is, or will be."""
    free = shutil.disk_usage(_nearest_folder(database_file)).free
    text = f"{free // 1024**2} MiB free for {database_file}"
    if free < LOW_BYTES:
        return Finding(FAIL, "disk", text, "free some space, or set SKYCLAW_DB_PATH to another disk")
    return Finding(WARN if free < TIGHT_BYTES else OK, "disk", text)


def _nearest_folder(file: Path) -> Path:
    return next(folder for folder in file.absolute().parents if folder.is_dir())


def database(file: Path) -> Finding:
    """Whether the database can be opened; one that does not exist yet can be made, one in use belongs to a running coordinator."""
    from skyclaw.store.inspection import check_header, inspect

    if not file.exists():
        folder = _nearest_folder(file)
        if not os.access(folder, os.W_OK):
            return Finding(FAIL, "database", f"{file} cannot be made: {folder} is not writable", "set SKYCLAW_DB_PATH")
        return Finding(OK, "database", f"{file} will be made")
    if holder := _holder(file):
        return Finding(OK, "database", f"{file} is locked by a running coordinator (pid {holder})")
    try:
        if file.stat().st_size:
            check_header(file)
            inspect(file)
    except (DatabaseUnusable, OSError) as error:
        return Finding(FAIL, "database", str(error), "restore a backup, or set SKYCLAW_DB_PATH to another file")
    return Finding(OK, "database", f"{file} can be opened")


def _holder(database_file: Path) -> str:
    """The process id of who has locked the database, as its lock file says; empty when nobody has."""
    try:
        lock = database_file.with_name(f"{database_file.name}.lock").open("rb")
    except OSError:
        return ""
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read(20).decode("ascii", "replace").strip() or "unknown"
    return ""
