"""`skyclaw backup` and `skyclaw restore`: the database of a coordinator on this machine, carried away and brought back."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.session import Session
from skyclaw.entrypoints.setting_values import Environment
from skyclaw.errors import UsageWrong

if TYPE_CHECKING:
    from skyclaw.store.backup import Contents


def backup(session: Session, words: Sequence[str], replace: bool = False, json: bool = False) -> int:
    """Write a verified copy of the database, also while the coordinator runs."""
    from skyclaw.store.backup import back_up

    target = Path(words[0])
    contents = back_up(_database(Environment(session.environ)), target, replace=replace)
    if json:
        rendering.show_json({"file": str(target.resolve()), **asdict(contents)})
        return 0
    rendering.show(rendering.safe_line(f"{target} is a sound copy of {contents.node}, of log {contents.log}"))
    _show_logs(contents)
    return 0


def restore(
    session: Session, words: Sequence[str], alone: bool = False, i_know: bool = False, replace: bool = False, json: bool = False
) -> int:
    """Put a copy in the database's place, as that of a new node; alone only with --i-know."""
    from skyclaw.store.backup import restore as put_in_place

    env = Environment(session.environ)
    database, label = _database(env), env.read("SKYCLAW_COORDINATOR_NODE_ID", "name")
    if alone and not i_know:
        raise _not_said(Path(words[0]), database, replace)
    returned = put_in_place(Path(words[0]), database, label, alone=alone, replace=replace)
    kept = str(returned.kept) if returned.kept is not None else None
    if json:
        about = {"database": str(database.resolve()), "node": returned.node, "log": returned.log, "alone": alone, "kept": kept}
        rendering.show_json({**about, "contents": asdict(returned.contents)})
        return 0
    rendering.show(rendering.safe_line(f"{database} is in place, for the new node {returned.node}"))
    _show_logs(returned.contents)
    if kept:
        rendering.say(f"the database that was there is {kept} now")
    rendering.say(
        "it owns these logs as soon as it is started; what came after their last events is lost"
        if alone
        else f"these are copies, whose owners go on with them; the node founds log {returned.log} when it is started"
    )
    return 0


def _not_said(file: Path, database: Path, replace: bool) -> UsageWrong:
    """What would be overwritten, here and elsewhere; raises DatabaseUnusable for what is no sound backup."""
    from skyclaw.store.backup import verify

    logs = ", ".join(f"{log.log} after event {log.end:,}" for log in verify(file.resolve()).logs) or "no log"
    here = f"the database {database} is put aside, and " if database.exists() else ""
    return UsageWrong(
        f"--alone overwrites what other coordinators have: {here}whoever turns up later loses what it has beyond this backup: {logs}; "
        f"nothing was done, the same command with {'--replace ' if database.exists() and not replace else ''}--i-know does it"
    )


def _database(env: Environment) -> Path:
    if env.present("SKYCLAW_DATABASE_URL"):
        raise UsageWrong("SKYCLAW_DATABASE_URL keeps the queue elsewhere than in SKYCLAW_DB_PATH: there is no file to copy")
    return Path(env.read("SKYCLAW_DB_PATH", "name", longest=4_096))


def _show_logs(contents: "Contents") -> None:
    rows = [(log.log, log.epoch, log.end, f"{datetime.fromtimestamp(log.at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}") for log in contents.logs]
    if rows:
        rendering.show_table(("LOG", "EPOCH", "END", "LAST EVENT"), rows, {"EPOCH": 6})
