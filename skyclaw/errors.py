"""Everything Skyclaw raises on purpose.

The class says whose fault it was, its docstring is the default message, `code` is the word that programs compare. `api/errors.py` maps
the classes to HTTP statuses, `skyclaw/entrypoints/cli.py` to exit codes; nobody else translates.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class SkyclawError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().rstrip("."))
        self.details: dict[str, Any] = dict(details or {})


# The caller's fault: what was asked is not right.


class Invalid(SkyclawError):
    """The request is not as it should be."""

    code = "invalid"


class Unknown(SkyclawError):
    """There is no such thing."""

    code = "unknown"


class UnknownHost(Unknown):
    """There is no such host."""

    code = "unknown_host"


class UnknownJob(Unknown):
    """There is no such job."""

    code = "unknown_job"


class UnknownService(Unknown):
    """There is no such service."""

    code = "unknown_service"


class UnknownBundle(Unknown):
    """There is no such bundle."""

    code = "unknown_bundle"


class Refused(SkyclawError):
    """The request is well formed, but not allowed in the present state."""

    code = "refused"


class NotLeased(Refused):
    """The job is not leased."""

    code = "not_leased"


class StaleAttempt(Refused):
    """The lease under which this was reported is no longer in force."""

    code = "stale_attempt"


class AlreadyFinished(Refused):
    """The job has already finished."""

    code = "already_finished"


class NotFinished(Refused):
    """The job has not finished yet."""

    code = "not_finished"


class NotAssigned(Refused):
    """The service is not assigned to this host."""

    code = "not_assigned"


class IdempotencyConflict(Refused):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"


class QueueFull(SkyclawError):
    """The queue is full; try again later."""

    code = "queue_full"
    retry_after_s: ClassVar[int] = 5


# Nobody's fault: the coordinator cannot do it now.


class Unavailable(SkyclawError):
    """The coordinator cannot do this now; nothing was written, try again."""

    code = "unavailable"
    retry_after_s: ClassVar[int] = 1

    def __init__(self, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, {"written": False, **(details or {})})


class Undecided(Unavailable):
    """The outcome is unknown: it may have been written; repeat it with the same idempotency key."""

    code = "undecided"

    def __init__(self, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, {"written": "unknown", **(details or {})})


class StorageReadOnly(Unavailable):
    """The storage is read-only; nothing was written."""

    code = "storage_readonly"


class StorageFull(Unavailable):
    """The storage is full; nothing was written."""

    code = "storage_full"


class StorageFailed(Unavailable):
    """The storage failed; nothing was acknowledged."""

    code = "storage_failed"


class TooFewCopies(Unavailable):
    """Too few coordinators hold a copy of each write."""

    code = "too_few_copies"


class NotOwner(Unavailable):
    """Another coordinator decides for this log; nothing was written here."""

    code = "not_owner"

    def __init__(self, log: str, home: str | None = None) -> None:
        super().__init__(f"another coordinator decides for log {log}", {"log": log})
        self.log, self.home = log, home


class LostContact(Unavailable):
    """Too few of the coordinators that hold the log can be reached; nothing was written, try again."""

    code = "lost_contact"


class NotUnderstood(Unavailable):
    """A later version of Skyclaw wrote this; upgrade this coordinator, or ask another one."""

    code = "unsupported_event"


# The operator's fault, or the disk's: the process cannot start (exit code 3).


class StartRefused(SkyclawError):
    """The process cannot start."""

    code = "start_refused"


class SettingsWrong(StartRefused):
    """A setting has a wrong value."""

    code = "settings_wrong"


class AddressUnusable(StartRefused):
    """Nobody can listen on this address."""

    code = "address_unusable"


class DatabaseUnusable(StartRefused):
    """The database cannot be used."""

    code = "database_unusable"


class DatabaseDamaged(DatabaseUnusable):
    """The database is damaged."""

    code = "database_damaged"


class DatabaseForeign(DatabaseUnusable):
    """The database belongs to another program."""

    code = "database_foreign"


class DatabaseNewer(DatabaseUnusable):
    """The database was written by a newer version."""

    code = "database_newer"


class DatabaseLocked(DatabaseUnusable):
    """The database is in use by another process."""

    code = "database_locked"


# The fault of whoever typed the command line (exit code 2).


class UsageWrong(SkyclawError):
    """The command line is not as it should be."""

    code = "usage"


# What a client has to say about the coordinators it was told to use.


class Unreachable(SkyclawError):
    """No coordinator answers."""

    code = "unreachable"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("no coordinator answers: " + ", ".join(f"{url} ({reason})" for url, reason in reasons.items()), reasons)


class NotACoordinator(SkyclawError):
    """Something else than a Skyclaw coordinator answers there."""

    code = "not_a_coordinator"

    def __init__(self, url: str) -> None:
        super().__init__(f"{url} is not a Skyclaw coordinator")
        self.url = url


class ServerRefused(SkyclawError):
    """The coordinator refused the request; `code` is its own word for it, `retry_after` seconds."""

    code: str = "server_refused"  # type: ignore[misc]  # here it is the answer that says it, not the class

    def __init__(
        self, status: int, code: str, error: str, details: Mapping[str, Any] | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(error, details)
        self.status, self.code, self.error, self.retry_after = status, code, error, retry_after
