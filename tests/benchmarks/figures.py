"""What a measurement gives: figures, each beside its raw limit and its target, as a table and as JSON."""

import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HEADS = ("subject", "figure", "ours", "raw limit", "ratio", "target", "")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be: its ratio to the raw limit, or the figure itself where it has none."""

    bound: float
    most: bool = False  # at most the bound; otherwise at least

    def met(self, reached: float) -> bool:
        """Is it?"""
        return reached <= self.bound if self.most else reached >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.most else '>='} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Without `raw` the figure itself is judged; without `target` it is for orientation only."""

    subject: str
    name: str
    value: float
    unit: str
    raw: float | None = None
    raw_name: str = ""
    ratio: float | None = None  # of the rounds, not of the two medians
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.target.met(self.value if self.ratio is None else self.ratio)


def shown(value: float) -> str:
    """A number with three digits that count, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns, as many lines as there are figures and one for the heads."""
    rows = [HEADS, *map(_cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _cells(figure: Figure) -> tuple[str, ...]:
    raw = "" if figure.raw is None else f"{shown(figure.raw)} {figure.raw_name}"
    verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    return figure.subject, figure.name, f"{shown(figure.value)} {figure.unit}", raw, ratio, str(figure.target or ""), verdict


def write_json(path: Path, figures: Iterable[Figure], seconds: float) -> None:
    """Keep the figures, with what they were taken on."""
    machine = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
    }
    found = [{**asdict(figure), "met": figure.met} for figure in figures]
    path.write_text(json.dumps({"machine": machine, "seconds": round(seconds, 1), "figures": found}, indent=2) + "\n", encoding="utf-8")
