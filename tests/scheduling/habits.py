"""What may happen to a queue, how often, and with which arguments: to be drawn by hypothesis, or, ten times as fast, from a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from hypothesis import strategies as st

from tests.scheduling.judge import LOSSES

DAY = 86_400_000


class Source(Protocol):
    """Where an argument comes from."""

    def draw(self, random: Random) -> Any:
        """One value."""

    @property
    def strategy(self) -> st.SearchStrategy[Any]:
        """The same for hypothesis."""


@dataclass(frozen=True)
class One:
    """One of these; what is named twice comes twice as often."""

    of: Sequence[Any]

    def draw(self, random: Random) -> Any:
        return random.choice(self.of)

    @property
    def strategy(self) -> st.SearchStrategy[Any]:
        return st.sampled_from(self.of)


@dataclass(frozen=True)
class Some:
    """A list."""

    of: Source
    most: int
    least: int = 1

    def draw(self, random: Random) -> Any:
        return [self.of.draw(random) for _ in range(random.randint(self.least, self.most))]

    @property
    def strategy(self) -> st.SearchStrategy[Any]:
        return st.lists(self.of.strategy, min_size=self.least, max_size=self.most)


@dataclass(frozen=True)
class All:
    """A dictionary with all these."""

    of: Mapping[str, Source]

    def draw(self, random: Random) -> Any:
        return {name: source.draw(random) for name, source in self.of.items()}

    @property
    def strategy(self) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries({name: source.strategy for name, source in self.of.items()})


@dataclass(frozen=True)
class Habit:
    """Something that happens so often, with such arguments."""

    weight: int
    arguments: Mapping[str, Source]

    def draw(self, random: Random) -> dict[str, Any]:
        drawn: dict[str, Any] = All(self.arguments).draw(random)
        return drawn

    @property
    def strategies(self) -> dict[str, st.SearchStrategy[Any]]:
        return {name: source.strategy for name, source in self.arguments.items()}


YES_OR_NO = One([False, True])
INDEX, FEW, WHICH = One(range(100)), One(range(10)), One(range(6))
KEY = One([None] * 12 + [(key, digest) for key in ("k1", "k2") for digest in ("d1", "d2")])
NEEDED = One([(), ("a",), ("b",), ("a", "b")])
OFFERED = One([("a", "b"), ("a", "b"), ("a",), ("b",), ()])
ROOM = One([1, 2, 3])
TAKES = One(["4", "4", "1", "0", None])
NAME = One(["s1", "s2"])
WISH = All(
    {
        "required": NEEDED,
        "priority": One([0, 1, -1]),
        "delay": One([None, None, None, -5, 1, 5_000, 90_000]),
        "max_attempts": One([1, 2, 3]),
        "kind": One(["shell", "shell", *LOSSES]),
        "timeout_ms": One([None, 1, 100_000]),
    }
)
END = All({"end": One(["success", "success", "failure", "silence"]), "which": WHICH})
TOLD = All({"index": INDEX, "which": WHICH, "success": YES_OR_NO})
PAUSES = [0, 0, 0, 0, 1, 1_000, 1_000, 11_000, 31_000, 31_000]
LEASES = [60_000, 60_000, 60_000, 60_000, 60_000, 100_000]

BEGINNING = Habit(1, {"offered": Some(All({"names": OFFERED, "room": ROOM, "takes": TAKES}), 3), "wanted": Some(WISH, 6, 0)})
HABITS = {
    "enqueue": Habit(10, {"wanted": Some(WISH, 3), "key": KEY}),
    "cancel": Habit(3, {"index": INDEX, "key": KEY}),
    "retry": Habit(4, {"index": INDEX, "key": KEY}),
    "watch": Habit(2, {"index": INDEX}),
    "give_up": Habit(2, {"index": INDEX}),
    "explain": Habit(1, {"index": INDEX}),
    "survey": Habit(1, {}),
    "register": Habit(
        2, {"host_id": One(["h1", "h2", "h3"]), "offered": OFFERED, "room": ROOM, "listed": INDEX, "key": KEY, "takes": TAKES}
    ),
    "claim": Habit(12, {"number": FEW, "limit": ROOM, "claim_id": One([None, None, "c1", "c2"]), "park": YES_OR_NO, "key": KEY}),
    "work": Habit(5, {"number": FEW, "ends": Some(END, 3)}),
    "heartbeat": Habit(4, {"number": FEW, "style": One(["without a list", "all", "none", "some and strange ones"]), "key": KEY}),
    "report": Habit(8, {"number": FEW, "told": TOLD, "key": KEY}),
    "report_all": Habit(3, {"number": FEW, "several": Some(TOLD, 3)}),
    "release": Habit(3, {"number": FEW, "index": INDEX, "which": WHICH, "key": KEY}),
    "change_mode": Habit(3, {"number": FEW, "mode": One(["active", "active", "active", "paused", "draining"]), "key": KEY}),
    "pass_time": Habit(5, {"ms": One([0, 1, 500, 6_000, 31_000])}),
    "reap": Habit(8, {"ms": One([*PAUSES, *LEASES, *PAUSES, *LEASES, 600_000, DAY + 60_001])}),
    "deploy": Habit(3, {"name": NAME, "replicas": One([None, 1, 2, 3]), "key": KEY}),
    "change_service": Habit(4, {"name": NAME, "what": One(["1", "2", "3", "3", "stop", "restart", "restart", "remove"]), "key": KEY}),
    "look_at_services": Habit(1, {"name": NAME}),
    "sync": Habit(8, {"number": FEW, "status": One(["running", "running", "running", "starting", "failed", "ended"]), "index": INDEX}),
    "claim_service": Habit(2, {"number": FEW}),
    "report_service": Habit(3, {"number": FEW, "name": NAME, "status": One(["running", "running", "pending", "failed"]), "key": KEY}),
    "commit": Habit(8, {"number": One(range(1, 20))}),
    "fail_to_commit": Habit(4, {"number": One([1, 2, 3, 4, 5])}),
    "send_home": Habit(1, {}),
    "take_picture": Habit(2, {}),
    "crash": Habit(2, {"number": One(range(6)), "which": INDEX}),
}
