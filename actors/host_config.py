"""What a host tells of itself, and the pace it keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """Fixed for the life of a host's process. Times are milliseconds; `max_output_bytes` is for each of a job's two streams."""

    name: str
    capabilities: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    max_parallel: int = 1
    poll_ms: int = 2_000
    heartbeat_ms: int = 5_000
    grace_ms: int = 30_000
    max_output_bytes: int = 128_000
