import os
from collections.abc import Iterator

import freezegun
import pykka
import pytest

freezegun.configure(extend_ignore_list=["pykka"])


@pytest.fixture(autouse=True)
def _no_actor_survives() -> Iterator[None]:
    yield
    pykka.ActorRegistry.stop_all(timeout=5)


@pytest.fixture(autouse=True)
def _no_setting_leaks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tester's own shell says about Skyclaw is not part of a test."""
    for name in [name for name in os.environ if name.startswith("SKYCLAW_")]:
        monkeypatch.delenv(name)
