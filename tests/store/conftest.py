import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skyclaw.store.event_log import EventLog
from skyclaw.store.memory import MemoryEventLog
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite

# Every kind of store, opened for the given directory; another one need only be added here to be held to the same promises.
STORES: dict[str, Callable[[Path], EventLog]] = {
    "memory": lambda _directory: MemoryEventLog("here"),
    "sqlite": lambda directory: open_sqlite(directory / "skyclaw.db", "here"),
}


@pytest.fixture(params=STORES)
def new_store(request: pytest.FixtureRequest) -> Callable[[Path], EventLog]:
    """Makes a store of one kind."""
    return STORES[request.param]


@pytest.fixture
def event_log(new_store: Callable[[Path], EventLog], tmp_path: Path) -> Iterator[EventLog]:
    """An empty store of each kind."""
    store = new_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may be founded."""
    return tmp_path / "skyclaw.db"


@pytest.fixture
def open_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory that other users can reach."""
    directory = Path("/tmp") / f"skyclaw-{os.getpid()}-{tmp_path.name}"  # noqa: S108 - tmp_path itself is closed to others
    directory.mkdir()
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


@pytest.fixture
def open_at() -> Iterator[Callable[[Path], SqliteEventLog]]:
    """Opens databases, and closes them when the test is over."""
    opened: list[SqliteEventLog] = []

    def open_at(path: Path) -> SqliteEventLog:
        opened.append(open_sqlite(path, "here"))
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()
