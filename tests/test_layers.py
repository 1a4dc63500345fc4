"""Imports point one way, and the core reaches for nothing that could touch the world."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OUR_OWN = ("skyclaw", "actors", "api")

# Lower may not know higher, and what shares a height does not know its neighbour.
HEIGHT = {"skyclaw": 0, "skyclaw.store": 1, "skyclaw.outside": 1, "actors": 2, "api": 3, "skyclaw.entrypoints": 4, "skyclaw.__main__": 5}

PURE = {"abc", "base64", "bisect", "collections", "copy", "dataclasses", "datetime", "difflib", "enum", "functools", "hashlib", "heapq"}
PURE |= {"hmac", "itertools", "json", "math", "operator", "re", "shlex", "string", "types", "typing", "uuid", "orjson"}


def layer_of(module: str) -> str | None:
    """The innermost layer that the module belongs to; None for what is not ours."""
    parts = module.split(".")
    return next((name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in HEIGHT), None)


def imported_by(source: str) -> Iterator[str]:
    """Every module or name that the source imports, also within functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(module: str, source: str) -> list[str]:
    """What the module imports and should not."""
    here = layer_of(module)
    assert here is not None
    found = []
    for name in imported_by(source):
        there = layer_of(name)
        if there is not None and there != here and HEIGHT[there] >= HEIGHT[here]:
            found.append(f"{module} ({here}) imports {name} ({there})")
        elif there is None and here == "skyclaw" and name.partition(".")[0] not in PURE:
            found.append(f"{module} belongs to the core and imports {name}")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours, with its file."""
    for package in OUR_OWN:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(module, path, id=module) for module, path in modules()])
def test_a_module_imports_only_what_lies_below_it(module: str, path: Path) -> None:
    assert faults(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "number"),
    [
        ("skyclaw.errors", "import json\nfrom skyclaw.ids import new_job_id", 0),
        ("skyclaw.scheduling.jobs", "from collections.abc import Mapping", 0),
        ("skyclaw.scheduling.jobs", "import time", 1),
        ("skyclaw.scheduling.jobs", "from skyclaw.store import event_log", 1),
        ("skyclaw.scheduling.jobs", "def f():\n    import socket", 1),
        ("skyclaw.store.event_log", "from skyclaw.outside.clock import steady_clock", 1),
        ("skyclaw.outside.clock", "import skyclaw.store.tables, sqlmodel", 1),
        ("actors.job_queue", "from skyclaw.scheduling import jobs\nimport pykka", 0),
        ("actors.job_queue", "from api.app import create_app", 1),
        ("api.app", "from actors.desk import Desk\nimport falcon", 0),
        ("api.app", "from skyclaw.entrypoints.settings import CoordinatorSettings", 1),
        ("skyclaw.entrypoints.dev", "from skyclaw.__main__ import main", 1),
    ],
)
def test_what_points_upwards_or_out_is_found(module: str, source: str, number: int) -> None:
    assert len(faults(module, source)) == number
