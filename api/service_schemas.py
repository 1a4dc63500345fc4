"""What may be sent about services: by their users, and by the hosts that run them."""

import re
from typing import Any

from marshmallow import ValidationError

from api.fields import Capabilities, Printed, Strict, Text, Whole, problem, wrong
from api.payloads import check_args, check_env
from api.schemas import NULL_IS_MISSING, Cause, Closed
from api.targets import HOST_ID, SERVICE, SHA256
from skyclaw.ids import INSTANCE_ID, SERVICE_ID

MAX_REPLICAS, MAX_REVISION = 64, 2**31 - 1
MAX_DRAIN_MS, MIN_HEALTH_MS, MAX_HEALTH_MS = 600_000, 1_000, 600_000
MAX_INSTANCES = 1_024
MAX_OUTPUT = 32 * 1024  # bytes
MAX_OFFSET = 2**53
RESERVED = frozenset({"v1"})
NAME_RULE = "a name of at most 63 letters, digits and . _ -, beginning with a letter or digit"
COMMAND = re.compile(r"[^\x00]{1,4096}")
FOLDER = re.compile(r"[^\x00]{1,4096}")
HEALTH_PATH = re.compile(r"/[\x21-\x7e]{0,1023}")
ENDPOINT = re.compile(r"[\x21-\x7e]{1,2048}")

Health = tuple[str | None, int | None]
Env = tuple[tuple[str, str], ...]


class Required(Text):
    """A text that must be there; an empty one is none."""

    def read(self, value: Any) -> str:
        if isinstance(value, str) and not value.strip():
            raise self.make_error("required")
        return super().read(value)


class ServiceName(Required):
    """The name of a service: part of a path, and never taken for something else."""

    def read(self, value: Any) -> str:
        name = super().read(value)
        if name in RESERVED or SERVICE_ID.fullmatch(name):
            raise problem("must be another one: this one is reserved")
        return name


class Clearable(Text):
    """A text of a certain form, or an empty one: none, whatever the former revision has."""

    def read(self, value: Any) -> str:
        return value if value == "" else super().read(value)


class Args(Strict):
    """A list of texts."""

    def read(self, value: Any) -> tuple[str, ...]:
        check_args(value)
        return tuple(value)


class ServiceEnv(Strict):
    """As the environment of a job, as sorted pairs; PORT is for the host to say."""

    def read(self, value: Any) -> Env:
        check_env(value)
        if "PORT" in value:
            raise problem("must not contain PORT: the host says it")
        return tuple(sorted(value.items()))


class HealthCheck(Strict):
    """`{path?, timeoutMs?}`, as a pair."""

    PATH = Clearable(HEALTH_PATH, "a path of at most 1024 visible ASCII characters that begins with /")
    TIMEOUT = Whole(MIN_HEALTH_MS, MAX_HEALTH_MS)

    def read(self, value: Any) -> Health:
        if not isinstance(value, dict):
            raise wrong("an object", value)
        if extra := value.keys() - {"path", "timeoutMs"}:
            raise problem("is not a field of this request", min(extra))
        return _inner(self.PATH, value, "path"), _inner(self.TIMEOUT, value, "timeoutMs")


def _inner(field: Strict, value: dict[str, Any], name: str) -> Any:
    """A field of an object, None when it is not there; raises ValidationError."""
    try:
        return field.read(value[name]) if name in value else None
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from None


class DeployRequest(Closed):
    """A service, or a new revision of one."""

    service_id = Text(SERVICE_ID, "the id of a service", data_key="serviceId", load_default=None)
    name = ServiceName(SERVICE, NAME_RULE, required=True, error_messages=NULL_IS_MISSING)
    command = Required(COMMAND, "a text of 1 to 4096 characters", required=True, error_messages=NULL_IS_MISSING)
    args = Args(load_default=())
    cwd = Clearable(FOLDER, "a text of 1 to 4096 characters", load_default=None)
    env = ServiceEnv(load_default=())
    replicas = Whole(1, MAX_REPLICAS, load_default=None)
    required = Capabilities(data_key="requiredCapabilities", load_default=None)
    health = HealthCheck(load_default=(None, None))
    drain_ms = Whole(0, MAX_DRAIN_MS, data_key="drainMs", load_default=None)
    bundle = Clearable(SHA256, "the SHA-256 of a bundle: 64 hexadecimal digits in lower case", load_default=None)


class ScaleRequest(Closed):
    """How many instances are wanted."""

    replicas = Whole(1, MAX_REPLICAS, required=True, error_messages=NULL_IS_MISSING)


class RollbackRequest(Closed):
    """The revision to go back to; without one, the last healthy one before the present one."""

    revision = Whole(1, MAX_REVISION, load_default=None)


class Word(Strict):
    """One of some words."""

    def __init__(self, *among: str, **more: Any) -> None:
        super().__init__(**more)
        self._among = among

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self._among:
            raise wrong(f"one of {', '.join(self._among)}", value)
        return value


class ServiceReportRequest(Closed):
    """How a service is on a host that asks for one service after the other."""

    host_id = Text(HOST_ID, "the id of a host", data_key="hostId", required=True, error_messages=NULL_IS_MISSING)
    status = Word("pending", "running", "failed", required=True, error_messages=NULL_IS_MISSING)
    endpoint = Text(ENDPOINT, "an address of at most 2048 visible ASCII characters", load_default=None)
    error = Cause(load_default=None)


class OutputPart(Strict):
    """`{at, text}`, as a pair: what an instance has printed."""

    AT, TEXT = Whole(0, MAX_OFFSET), Printed()

    def read(self, value: Any) -> tuple[int, str]:
        if not isinstance(value, dict) or value.keys() != {"at", "text"}:
            raise wrong("an object with at and text", value)
        text: str = _inner(self.TEXT, value, "text")
        if len(text) > MAX_OUTPUT or len(text.encode()) > MAX_OUTPUT:
            raise problem(f"must be a text of at most {MAX_OUTPUT} bytes", "text")
        return _inner(self.AT, value, "at"), text


class InstanceEntry(Closed):
    """How one instance is."""

    instance_id = Text(INSTANCE_ID, "the id of an instance", data_key="instanceId", required=True)
    status = Word("starting", "running", "failed", "ended", required=True)
    port = Whole(1, 65_535, load_default=None)
    endpoint = Text(ENDPOINT, "an address of at most 2048 visible ASCII characters", load_default=None)
    error = Cause(load_default=None)
    output = OutputPart(load_default=None)


INSTANCE = InstanceEntry()


class Instances(Strict):
    """A list of instances, each as InstanceEntry and once."""

    def read(self, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or len(value) > MAX_INSTANCES:
            raise problem(f"must be a list of at most {MAX_INSTANCES} instances")
        instances = INSTANCE.read_all(value)
        if len({one["instance_id"] for one in instances}) != len(instances):
            raise problem("must have each instance once")
        return instances


class SyncRequest(Closed):
    """How all instances of a host are."""

    instances = Instances(required=True)
