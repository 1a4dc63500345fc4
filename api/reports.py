"""From what a host sends about a finished attempt to the command that reports it."""

from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import ValidationError

from api.schemas import BatchResult, CompleteRequest
from skyclaw.commands import Keyed, Outcome, Report

MAX_DETAIL = 16 * 1024  # bytes
DROPPED = '{"detailDropped":true}'
DECLARED = frozenset(field.data_key or name for schema in (BatchResult(), CompleteRequest()) for name, field in schema.fields.items())


def report(job_id: str, host_id: str, values: Mapping[str, Any], sent: Mapping[str, Any], keyed: Keyed | None = None) -> Report:
    """The report of one attempt, from the values read from what was sent; raises ValidationError."""
    code = values["exit_code"]
    if code is None and values["success"]:
        raise ValidationError({"exitCode": ["must be a number when success is true"]})
    outcome = Outcome(
        success=values["success"],
        duration_ms=values["duration_ms"],
        exit_code=1 if code is None else code,
        stdout=values["stdout"],
        stderr=values["stderr"],
        error=values["error"],
        detail=_detail(sent),
    )
    return Report(job_id, host_id, values["token"], outcome, keyed=keyed)


def _detail(sent: Mapping[str, Any]) -> str:
    """The fields that are not declared, as the JSON text of an object.

    When they are too long, all of them are dropped, and `detailDropped` says so: refused, the report would be lost and the job run
    once more.
    """
    try:
        text = orjson.dumps({name: value for name, value in sent.items() if name not in DECLARED})
    except TypeError:  # half a surrogate pair
        raise ValidationError({"_schema": ["must not contain half a surrogate pair"]}) from None
    return text.decode() if len(text) <= MAX_DETAIL else DROPPED
