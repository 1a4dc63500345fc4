"""What a stand-in coordinator wants of a host's services, and what the host has told of them: the host's services route, in memory.

State is touched under the coordinator's `changed` only.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

TAG = "0a1b2c3d"
ANOTHER_TAG = "ffffffff"  # of a log whose owner does not answer


@dataclass
class StandInInstance:
    """An instance: what is wanted, and what was told of it. `state` is run, drain, or None when it is not wanted any more."""

    id: str
    fields: dict[str, Any]
    state: str | None = "run"
    status: str = "placed"
    statuses: list[str] = field(default_factory=list)  # each once while it stays so
    port: int | None = None
    endpoint: str | None = None
    error: str | None = None
    errors: list[str] = field(default_factory=list)
    output: str = ""
    output_at: int = 0  # of the next byte
    largest_output: int = 0  # of one sync

    def hear(self, said: dict[str, Any]) -> None:
        """What the host says of it."""
        self.status, self.port, self.endpoint, self.error = said["status"], said.get("port"), said.get("endpoint"), said.get("error")
        if self.statuses[-1:] != [self.status]:
            self.statuses.append(self.status)
        if self.error is not None and self.errors[-1:] != [self.error]:
            self.errors.append(self.error)
        if "output" in said and said["output"]["at"] >= self.output_at:
            text = said["output"]["text"]
            self.output += text
            self.output_at = said["output"]["at"] + len(text.encode())
            self.largest_output = max(self.largest_output, len(text.encode()))
        if self.status == "ended":
            self.state = None


class StandInServices:
    """The instances that are wanted of the one host of a test."""

    def __init__(self) -> None:
        self.instances: dict[str, StandInInstance] = {}
        self.syncs: list[dict[str, Any]] = []
        self.bundles: dict[str, bytes] = {}
        self.lease_ms = 15_000
        self.logs = [TAG]
        self._numbers = itertools.count(1)

    def want(self, command: str, *args: str, tag: str = TAG, **fields: Any) -> StandInInstance:
        """A new instance is to run."""
        number = next(self._numbers)
        wanted = {"serviceId": f"svc_{tag}1", "name": "web", "revision": 1, "command": command, "args": list(args), "env": {}, "drainMs": 0}
        instance = StandInInstance(f"ins_{tag}{number:08x}", {**wanted, "health": {"timeoutMs": 60_000}, **fields})
        self.instances[instance.id] = instance
        return instance

    def keep_bundle(self, packed: bytes) -> str:
        """A bundle that hosts can fetch; returns its sha256."""
        sha256 = hashlib.sha256(packed).hexdigest()
        self.bundles[sha256] = packed
        return sha256

    def bundle(self, path: str) -> bytes | None:
        """The answer to a request for a bundle."""
        return self.bundles.get(path.removeprefix("/v1/bundles/"))

    def hint(self) -> dict[str, str]:
        """What claims and heartbeats are told."""
        return {"services": self._digest} if self._wanted else {}

    def sync(self, body: dict[str, Any]) -> dict[str, Any]:
        """Hear what the host tells, and answer."""
        self.syncs.append(body)
        for said in body["instances"]:
            if said["instanceId"] in self.instances:
                self.instances[said["instanceId"]].hear(said)
        return {
            "instances": [
                {**instance.fields, "instanceId": instance.id, "state": instance.state, "outputAt": instance.output_at}
                for instance in self._wanted
            ],
            "stop": [said["instanceId"] for said in body["instances"] if said["instanceId"][4:12] in self.logs and self._gone(said)],
            "logs": self.logs,
            "leaseMs": self.lease_ms,
            "digest": self._digest,
        }

    def _gone(self, said: dict[str, Any]) -> bool:
        instance = self.instances.get(said["instanceId"])
        return instance is None or instance.state is None

    @property
    def _wanted(self) -> list[StandInInstance]:
        return [instance for instance in self.instances.values() if instance.state is not None and instance.id[4:12] in self.logs]

    @property
    def _digest(self) -> str:
        return hashlib.sha256(json.dumps([(instance.id, instance.state) for instance in self._wanted]).encode()).hexdigest()[:8]
