"""What a host lets jobs run: which commands, with which variables, and where.

The list of commands is made of names and absolute paths. It is looked up once, when the host starts, and a job's command is only ever
compared with it: what runs is the path that was found then, never one that the job gave. So neither a directory that a job can write to,
nor a symlink, nor a PATH of its own leads anywhere else.

The list is no fence: a shell, an interpreter or a tool that starts others runs whatever a job wants. The fence is the isolation level.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from skyclaw.errors import Refused, SettingsWrong

NOT_ALLOWED, NOT_FOUND = 126, 127

ENV_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
DENIED_KEYS = frozenset({"BASH_ENV", "ENV", "IFS", "NODE_OPTIONS", "PATH"})
DENIED_PREFIXES = ("DYLD_", "GIT_", "LD_", "OPENCLAW_", "PYTHON", "SKYCLAW_", "SSH_")

_INTERPRETER = re.compile(
    r"(ash|awk|bash|bun|busybox|csh|dash|deno|docker|doas|env|expect|fish|find|gawk|gdb|git|java|julia|ksh|lua|luajit|make|mawk|mksh|nawk"
    r"|nice|node|nodejs|nohup|npm|npx|openclaw|perl|php|pip|pnpm|podman|pypy|python|Rscript|ruby|sed|setsid|sh|ssh|stdbuf|strace|su|sudo"
    r"|systemd-run|tar|tclsh|tcsh|time|timeout|uv|uvx|vi|vim|watch|xargs|yarn|zsh)[-\d.]*"
)

WhichCommand = Callable[[str], str | None]
RealPath = Callable[[str], str]


class CommandRefused(Refused):
    """This host does not run that."""

    code = "command_not_allowed"

    def __init__(self, message: str, exit_code: int = NOT_ALLOWED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """The commands of a host as they were found at its start; made by `look_up`.

    `names` gives the path of each listed name or path, None for what is not installed; `paths` the path to run for each form in which an
    absolute path may be written; `work_roots` are real paths.
    """

    names: Mapping[str, str | None]
    paths: Mapping[str, str]
    work_roots: tuple[str, ...]
    real_path: RealPath

    @property
    def missing(self) -> tuple[str, ...]:
        """What is listed, but not installed."""
        return tuple(name for name, path in self.names.items() if path is None)

    @property
    def interpreters(self) -> tuple[str, ...]:
        """What is listed and can run anything, so that the list keeps nobody from anything; for the log at the host's start."""
        return tuple(name for name in self.names if _INTERPRETER.fullmatch(_split(name)[1]))

    def path_of(self, command: str) -> str:
        """The absolute path to run for a job's command; raises CommandRefused (exit code 126, or 127 when it is not installed)."""
        written_out = command.startswith("/") and "\0" not in command
        path = self.paths.get(_form(command, self.real_path)) if written_out else self.names.get(command)
        if path is not None:
            return path
        if command in self.names:
            raise CommandRefused(f"command not found: {command}", NOT_FOUND)
        raise CommandRefused(f"command not allowed: {command}")

    def cwd_of(self, cwd: str | None) -> str | None:
        """Where a job starts: None in its own directory, a relative path inside it, or the real path of a directory below a work root.

        Raises CommandRefused (exit code 126) for anything else.
        """
        if cwd is None or (not cwd.startswith("/") and ".." not in cwd.split("/") and "\0" not in cwd):
            return cwd
        if cwd.startswith("/") and "\0" not in cwd:
            real = self.real_path(cwd)
            if any(real == root or real.startswith(root.rstrip("/") + "/") for root in self.work_roots):
                return real
        raise CommandRefused(f"cwd not allowed: {cwd}")


def look_up(allowed: Iterable[str], which: WhichCommand, real_path: RealPath, work_roots: Iterable[str] = ()) -> CommandPolicy:
    """The policy for a list of commands, as the machine is now; raises SettingsWrong for a list that cannot mean anything safe.

    `which` gives the path of an executable name or path or None, `real_path` the path without symlinks.
    """
    names: dict[str, str | None] = {}
    paths: dict[str, str] = {}
    for name in allowed:
        _check(name)
        found = which(name)
        names[name] = path = found if found is not None and found.startswith("/") else None
        if path is not None:
            paths.setdefault(_form(path, real_path), path)
            paths.setdefault(real_path(path), path)
    return CommandPolicy(names, paths, tuple(real_path(root) for root in work_roots), real_path)


def check_env(env: Mapping[str, str]) -> None:
    """Refuse variables that are no names, that change what a program is or loads, or that are the host's own; raises CommandRefused."""
    for key, value in env.items():
        if not ENV_KEY.fullmatch(key):
            raise CommandRefused(f"environment variable not allowed: {key[:64]!r}")
        if key in DENIED_KEYS or key.startswith(DENIED_PREFIXES):
            raise CommandRefused(f"environment variable not allowed: {key}")
        if "\0" in value:
            raise CommandRefused(f"environment variable holds a NUL character: {key}")


def _check(name: str) -> None:
    if "*" in name:
        raise SettingsWrong("a list of allowed commands cannot hold `*`: name the commands")
    if not name or ("/" in name and not name.startswith("/")) or _split(name)[1] in ("", ".", ".."):
        raise SettingsWrong(f"an allowed command is a name or an absolute path, not {name[:64]!r}")


def _form(path: str, real_path: RealPath) -> str:
    """An absolute path with its directory made real, but not its last part: a symlink is not what it points to."""
    folder, name = _split(path)
    return f"{real_path(folder or '/').rstrip('/')}/{name}"


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name
