"""`python -m tests.benchmarks [names...] [--quick] [--json FILE] [--folder FOLDER]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.figures import Figure, write_json

ROOT = Path(__file__).parents[2]
LONGEST_S, LONGEST_QUICK_S = 360.0, 60.0


def main(words: Sequence[str]) -> int:
    """Measure what the words say; returns the exit code."""
    from tests.benchmarks import running  # here, because the children import this module too and need none of it
    from tests.benchmarks.stage import FULL, QUICK
    from tests.benchmarks.subjects import SUBJECTS

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measures, and compares with targets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure; all of {', '.join(SUBJECTS)} when none is given")
    parser.add_argument("--quick", action="store_true", help="less of everything, in less than a minute: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".benchmarks", help="a folder on the disk to be measured (default: %(default)s)"
    )
    given = parser.parse_args(words)
    if unknown := sorted(set(given.names) - set(SUBJECTS)):
        parser.error(f"no such measurement: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    if not running.on_disk(given.folder):
        parser.error(f"{given.folder} is in memory, where commits cost nothing: name a folder on a disk")

    def keep(figures: Sequence[Figure], seconds: float) -> None:
        if given.json is not None:
            write_json(given.json, figures, seconds)

    names = [name for name in SUBJECTS if name in given.names or not given.names]
    scale, within_s = (QUICK, LONGEST_QUICK_S) if given.quick else (FULL, LONGEST_S)
    return running.run(names, scale, given.folder, within_s, keep)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
