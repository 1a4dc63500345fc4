"""How long the random tests look: SKYCLAW_HYPOTHESIS=thorough for a long search, anything else for the everyday one."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.scheduling.making import Shop

QUIET: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("everyday", max_examples=120, stateful_step_count=60, **QUIET)
settings.register_profile("thorough", max_examples=2_000, stateful_step_count=100, **QUIET)
settings.load_profile("thorough" if os.environ.get("SKYCLAW_HYPOTHESIS") == "thorough" else "everyday")


@pytest.fixture
def shop() -> Shop:
    """A new queue."""
    return Shop()
