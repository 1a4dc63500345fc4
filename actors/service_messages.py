"""What the threads around ServiceSupervisor tell it."""

from collections.abc import Mapping
from dataclasses import dataclass

from skyclaw.hosting.service_payloads import Answer


@dataclass(frozen=True, slots=True)
class Synced:
    """The coordinators were told that these instances are so (id -> status), and have answered."""

    told: Mapping[str, str]
    answer: Answer


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """A probe of an instance's process number `run` has come back; `error` is None when it is healthy."""

    instance_id: str
    run: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An instance's bundle is in the instance's folder; or it is not, and will never be when that is `for_good`."""

    instance_id: str
    error: str | None = None
    for_good: bool = False
