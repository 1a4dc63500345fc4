"""A process that dies at any moment leaves a database that the next start accepts, with all that was acknowledged."""

import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from skyclaw.store import founding, locking
from skyclaw.store.event_log import EMPTY, Write
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from tests.store.children import forked, killed
from tests.store.histories import STREAMS, TYPES, everything, grown, head_of

OpenAt = Callable[[Path], SqliteEventLog]


def _dies_at_line(path: Path, number: int) -> None:
    """Open a database and be killed before the `number`-th line of the code that founds and locks is run for the first time."""
    files = {module.__file__ for module in (founding, locking)}
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, what: str, _: object) -> Callable[..., object] | None:
        if frame.f_code.co_filename not in files:
            return None
        if what == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
            if len(lines) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    open_sqlite(path, "here")


def test_a_founding_that_dies_at_any_line_leaves_what_the_next_start_accepts(tmp_path: Path) -> None:
    founded, number, survived = set[bool](), 0, False
    while not survived:
        number += 1
        path = tmp_path / str(number) / "skyclaw.db"
        pid = forked(lambda number=number, path=path: _dies_at_line(path, number))  # type: ignore[misc]
        survived = os.waitpid(pid, 0)[1] == 0
        founded.add(path.exists())
        store = open_sqlite(path, "here")
        assert store.head(store.log) == EMPTY
        store.close()
        assert [file.name for file in path.parent.iterdir()] == ["skyclaw.db"]
    assert number > 40
    assert founded == {False, True}


def test_a_founding_that_dies_at_a_random_moment_leaves_what_the_next_start_accepts(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311
    longest = 0.03
    died = 0
    for number in range(25):
        path = tmp_path / str(number) / "skyclaw.db"
        pid = forked(lambda path=path: open_sqlite(path, "here"))
        time.sleep(chance.uniform(0, longest))
        died += killed(pid)
        store = open_sqlite(path, "here")
        assert store.head(store.log) == EMPTY
        store.close()
    assert died


def test_a_writer_that_dies_leaves_whole_batches_and_all_that_it_was_told_of(path: Path, open_at: OpenAt) -> None:
    """Batches of seven, and of two hundred, which take several statements; `told` has the position of the last append that returned."""
    chance = random.Random(11)  # noqa: S311
    read, write = os.pipe()

    def work() -> None:
        store = open_sqlite(path, "there")
        while True:
            for count in (7, 200):
                head = store.head(store.log)
                store.append(grown(store.log, count, head))
                os.write(write, (head.seq + count).to_bytes(4, "big"))

    for _ in range(6):
        pid = forked(work)
        told = os.read(read, 4)
        time.sleep(chance.uniform(0, 0.04))
        assert killed(pid)
        os.set_blocking(read, False)
        while more := _read(read):
            told = more[-4:]
        os.set_blocking(read, True)
        store = open_at(path)
        records = everything(store)
        assert len(records) >= int.from_bytes(told, "big")
        assert len(records) % 207 in (0, 7)
        assert store.head(store.log) == head_of(records)
        store.close()
        path.unlink()


def test_a_writer_that_dies_leaves_each_write_whole_with_its_promise(path: Path, open_at: OpenAt) -> None:
    """Write number n replaces the end of two logs, keeps n records of it at most, and promises the epoch 0.n.x; `told` has n."""
    chance = random.Random(13)  # noqa: S311
    read, write = os.pipe()

    def work() -> None:
        store = open_sqlite(path, "there")
        for number in itertools.count(int(store.promises().get("a", "0.0.x").split(".")[1]) + 1):
            writes = []
            for log in ("a", "b"):
                kept = store.head_at(log, min(store.head(log).seq, number % 50))
                writes.append(Write(log, kept.seq + 1, grown(log, 5 + number * 37 % 140, kept, str(number))))
            store.write(writes, {"a": f"0.{number}.x", "b": f"0.{number}.y"})
            os.write(write, number.to_bytes(4, "big"))

    for _ in range(6):
        pid = forked(work)
        told = os.read(read, 4)
        time.sleep(chance.uniform(0, 0.04))
        assert killed(pid)
        os.set_blocking(read, False)
        while more := _read(read):
            told = more[-4:]
        os.set_blocking(read, True)
        store = open_at(path)
        promises = store.promises()
        number = int(promises["a"].split(".")[1])
        assert int.from_bytes(told, "big") <= number <= int.from_bytes(told, "big") + 1
        assert promises == {"a": f"0.{number}.x", "b": f"0.{number}.y"}
        assert store.logs() == ["a", "b"]
        for log in store.logs():
            records = list(store.tail(log, 0))
            assert sum(record.data == str(number) for record in records) == 5 + number * 37 % 140
            assert records[-1].data == str(number)
            assert store.of_types(log, TYPES) == records
            assert sum(store.last(log, STREAMS).values()) == sum(len(records) - back for back in range(4))
        store.close()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def test_the_leftovers_of_a_dead_founding_are_cleared_away(path: Path, open_at: OpenAt) -> None:
    for end in ("", "-journal", "-wal", "-shm"):
        path.with_name(f"skyclaw.db.founding{end}").write_bytes(b"half")
    open_at(path)
    assert not list(path.parent.glob("*founding*"))
