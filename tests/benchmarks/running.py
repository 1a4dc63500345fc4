"""One run: the subjects one after the other, bounded in time, everything stopped and deleted at its end, however it ends."""

import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType

from tests.benchmarks.figures import Figure, table
from tests.benchmarks.stage import Scale, Stage
from tests.benchmarks.subjects import SUBJECTS

IN_MEMORY = ("tmpfs", "ramfs")


class OutOfTime(BaseException):
    """The run has taken all the time it may take. As an interruption it passes by whoever deals with errors."""


def say(text: str) -> None:
    """For whoever runs this."""
    print(text, flush=True)  # noqa: T201  # the program's output


def run(names: Sequence[str], scale: Scale, folder: Path, within_s: float, keep: Callable[[Sequence[Figure], float], None]) -> int:
    """Measure these subjects and print the table.

    Returns the exit code: 1 when the time was not enough, or a subject failed (the others are measured), 130 when it was interrupted.
    """
    figures: list[Figure] = []
    began, code = time.monotonic(), 0
    try:
        with _bounded(within_s), _own_folder(folder) as own:
            for name in names:
                code |= not _measured(name, Stage(own, scale), figures)
    except OutOfTime:
        say(f"out of time after {within_s:.0f} s; what is missing was not measured")
        code = 1
    except KeyboardInterrupt:
        say("interrupted")
        code = 130
    say(f"\n{table(figures)}\n\n{time.monotonic() - began:.0f} s")
    keep(figures, time.monotonic() - began)
    return code


def on_disk(folder: Path) -> bool:
    """Whether what is committed there costs what it costs on a disk."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    kinds = {Path(point): kind for _, point, kind, *_ in mounts}
    place = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent in kinds)
    return kinds[place] not in IN_MEMORY


def _measured(name: str, stage: Stage, figures: list[Figure]) -> bool:
    """Measure a subject; whether all of it could be."""
    began = time.monotonic()
    try:
        with stage:
            for figure in SUBJECTS[name](stage):
                figures.append(figure)
                say(f"  {table([figure]).splitlines()[1]}")
    except Exception:
        say(f"{name} failed:\n{traceback.format_exc()}")
        return False
    say(f"{name}: {time.monotonic() - began:.0f} s")
    return True


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    own = Path(mkdtemp(prefix="run-", dir=folder))
    try:
        yield own
    finally:
        shutil.rmtree(own)


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread after that time, and KeyboardInterrupt when it is asked to end in another way."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTime

    def asked(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handlers = {signal.SIGALRM: over, signal.SIGTERM: asked, signal.SIGHUP: asked}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
