"""What may be sent: one schema for each request body, all closed."""

import re
from typing import Any, cast

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, missing

from api.fields import Capabilities, Flag, Moment, Pairs, Printed, Strict, Text, Whole, capabilities, problem, wrong
from api.payloads import DAY_MS, Payload
from api.targets import HOST_ID
from skyclaw.commands import HeldLease
from skyclaw.ids import JOB_ID

MAX_WAIT_MS, MAX_CLAIM, MAX_BATCH, MAX_RESULTS = 30_000, 256, 1_000, 256
MAX_LEASES, MAX_LOAD = 4_096, 32
MAX_ERROR, CUT = 4_096, " [cut]"  # characters, with what stands at the end of a longer one
LONGEST = 2**53  # ms: whole numbers that every JSON reader keeps

NULL_IS_MISSING: dict[str, str | list[Any] | dict[Any, Any]] = {"null": "is required"}

SHORT_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
TOKEN = re.compile(r"[\x21-\x7e]{1,255}")
NAME = re.compile("[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]{1,128}")  # no controls, none of bidi


class Closed(Schema):
    """Base: what is not declared is refused, in our words.

    `read` looks only at what is there, not for all that could be; when something is wrong with it, marshmallow looks again and says what.
    """

    error_messages = {"unknown": "is not a field of this request", "type": "must be an object"}  # noqa: RUF012  # marshmallow's own way

    class Meta:
        unknown = RAISE

    def __init__(self) -> None:
        super().__init__()
        fields = cast(dict[str, Strict], self.load_fields)
        self._readers = {field.data_key or name: (name, field.read) for name, field in fields.items()}
        self._required = frozenset(name for name, field in fields.items() if field.required)
        self._defaults = {name: field.load_default for name, field in fields.items() if field.load_default is not missing}

    def read(self, sent: Any) -> dict[str, Any]:
        """The values of the fields; raises ValidationError."""
        values = self._quickly(sent)
        return self.load(sent) if values is None else values

    def read_all(self, sent: list[Any]) -> list[dict[str, Any]]:
        """The values of several; raises ValidationError."""
        values = [self._quickly(one) for one in sent]
        return self.load(sent, many=True) if None in values else cast(list[dict[str, Any]], values)

    def _quickly(self, sent: Any) -> dict[str, Any] | None:
        """The values, or None when something is wrong."""
        if type(sent) is not dict:
            return None
        values = dict(self._defaults)
        try:
            for name, value in sent.items():
                if name in self._readers:
                    attribute, read = self._readers[name]
                    values[attribute] = read(value)
                elif self.unknown == RAISE:
                    return None
        except ValidationError:
            return None
        return values if self._required <= values.keys() else None


class Requirement(Strict):
    """`{requiredCapabilities?: [...]}`, as the sorted names."""

    def read(self, value: Any) -> tuple[str, ...]:
        names: tuple[str, ...] = _only(value, "requiredCapabilities", [], capabilities)
        return names


class Backoff(Strict):
    """`{initialMs?}`, as the number."""

    def read(self, value: Any) -> int:
        delay: int = _only(value, "initialMs", 1000, Whole(0, 3_600_000).read)
        return delay


def _only(value: Any, name: str, default: Any, read: Any) -> Any:
    """The one field of an object; raises ValidationError."""
    if not isinstance(value, dict):
        raise wrong("an object", value)
    if extra := value.keys() - {name}:
        raise problem("is not a field of this request", extra.pop())
    try:
        return read(value.get(name, default))
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from None


class EnqueueRequest(Closed):
    """A job to be run."""

    payload = Payload(required=True, error_messages=NULL_IS_MISSING)
    required = Requirement(data_key="requirement", load_default=())
    submitted_by = Text(SHORT_TEXT, "a text of 1 to 256 characters", data_key="submittedBy")
    priority = Whole(-1000, 1000)
    not_before = Moment(data_key="notBefore")
    max_attempts = Whole(1, 100, data_key="maxAttempts")
    backoff_ms = Backoff(data_key="backoff")
    timeout_ms = Whole(1, DAY_MS, data_key="timeoutMs")
    labels = Pairs()


ENQUEUE = EnqueueRequest()


class Jobs(Strict):
    """A list of jobs, each as EnqueueRequest."""

    def read(self, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
            raise problem(f"must be a list of 1 to {MAX_BATCH} jobs")
        return ENQUEUE.read_all(value)


class BatchRequest(Closed):
    """Several jobs, all or none."""

    jobs = Jobs(required=True)


class Leases(Strict):
    """`[{jobId, leaseToken}]`."""

    def read(self, value: Any) -> tuple[HeldLease, ...]:
        if not isinstance(value, list) or len(value) > MAX_LEASES:
            raise problem(f"must be a list of at most {MAX_LEASES} leases")
        return tuple(_lease(number, one) for number, one in enumerate(value))


def _lease(number: int, value: Any) -> HeldLease:
    if not isinstance(value, dict) or value.keys() != {"jobId", "leaseToken"}:
        raise wrong("an object with jobId and leaseToken", value, str(number))
    job_id, token = value["jobId"], value["leaseToken"]
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise wrong("the id of a job", job_id, f"{number}.jobId")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise wrong("the token that came with the lease", token, f"{number}.leaseToken")
    return HeldLease(job_id, token)


class Load(Strict):
    """A host's own figures about its load."""

    def read(self, value: Any) -> dict[str, float]:
        if not isinstance(value, dict) or len(value) > MAX_LOAD or any(len(name) > 64 for name in value):
            raise problem(f"must be an object of at most {MAX_LOAD} numbers")
        for name, figure in value.items():
            if type(figure) not in (int, float):
                raise wrong("a number", figure, name)
        return {name: float(figure) for name, figure in value.items()}


class Name(Text):
    """A host's name, trimmed; one without a visible character is none."""

    def read(self, value: Any) -> str:
        if isinstance(value, str) and not value.strip():
            raise self.make_error("required")
        return super().read(value).strip()


class RegisterRequest(Closed):
    """A host begins a life."""

    host_id = Text(HOST_ID, "at most 128 letters, digits and . _ : -", data_key="hostId")
    name = Name(NAME, "a name of 1 to 128 printable characters", required=True, error_messages=NULL_IS_MISSING)
    capabilities = Capabilities(load_default=())
    max_parallel = Whole(1, 256, data_key="maxParallel", load_default=1)
    labels = Pairs(load_default=())
    leases = Leases(load_default=())


class HeartbeatRequest(Closed):
    """A host lives."""

    active_leases = Whole(0, 100_000, data_key="activeLeases")
    leases = Leases(load_default=None)
    answered = Text(TOKEN, "the id of the claim that was answered last", data_key="answeredClaim", load_default=None)
    load_figures = Load(data_key="load", load_default={})


class ClaimRequest(Closed):
    """A host asks for jobs."""

    wait_ms = Whole(0, MAX_WAIT_MS, data_key="waitMs", load_default=0)
    limit = Whole(1, MAX_CLAIM, data_key="max", load_default=1)
    claim_id = Text(TOKEN, "1 to 255 printable ASCII characters", data_key="claimId", load_default=None)


class ReleaseRequest(Closed):
    """A host gives a job back."""

    host_id = Text(HOST_ID, "the id of a host", data_key="hostId", required=True)
    token = Text(TOKEN, "the token that came with the lease", data_key="leaseToken", load_default=None)
    reason = Text(SHORT_TEXT, "a text of 1 to 256 characters", load_default="given back by its host")
    claim_id = Text(TOKEN, "the id of the claim whose answer the host has not heard", data_key="claimId", load_default=None)


class EmptyRequest(Closed):
    """Nothing needs to be said."""


class Cause(Printed):
    """Why an attempt failed. A longer one is cut and says so: refused, the report would be lost and the job run once more."""

    def read(self, value: Any) -> str:
        text = super().read(value)
        return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - len(CUT)] + CUT


class ResultSchema(Closed):
    """How an attempt ended. What is not declared is the host's own and kept with the result, see `api.reports`."""

    class Meta:
        unknown = EXCLUDE

    token = Text(TOKEN, "the token that came with the lease", data_key="leaseToken", load_default=None)
    success = Flag(required=True)
    duration_ms = Whole(0, LONGEST, data_key="durationMs", required=True)
    exit_code = Whole(-(2**31), 2**31 - 1, data_key="exitCode", required=True, allow_none=True)
    stdout = Printed(required=True)
    stderr = Printed(required=True)
    error = Cause(load_default=None)


class CompleteRequest(ResultSchema):
    """The result of the job that the path names."""

    host_id = Text(HOST_ID, "the id of a host", data_key="hostId", required=True)


class BatchResult(ResultSchema):
    """One result of several."""

    job_id = Text(JOB_ID, "the id of a job", data_key="jobId", required=True)


RESULT = BatchResult()


class Results(Strict):
    """A list of results, each as BatchResult."""

    def read(self, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_RESULTS:
            raise problem(f"must be a list of 1 to {MAX_RESULTS} results")
        return RESULT.read_all(value)


class ResultsRequest(Closed):
    """Several results of one host."""

    results = Results(required=True)
