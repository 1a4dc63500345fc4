"""Tokens, from the environment or better from a file that only its owner can read."""

import os
import stat
from pathlib import Path

from environs import ValidationError

from skyclaw.entrypoints.setting_values import Environment, tokens
from skyclaw.errors import SettingsWrong

SHORT_TOKEN = 16  # characters; a shorter one is guessed
TOKEN_FILE_BYTES = 64 * 1024  # no token is nearly as long


def read_tokens(env: Environment, setting: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The live tokens of a setting, or of the file that `<setting>_FILE` names, with what is to be said about that file."""
    file = f"{setting}_FILE"
    if not env.present(file):
        return env.read(setting, "tokens") or (), ()
    path = Path(env.given[file].strip())
    found = _tokens_in(path, file)
    readable = stat.S_IMODE(path.stat().st_mode) & 0o077
    return found, ((f"{file} can be read by other users; type: chmod 600 {path}",) if readable else ())


def guessable(*used: str | None) -> tuple[str, ...]:
    """The warning about a short token, for those who are entered by it."""
    short = any(token is not None and len(token) < SHORT_TOKEN for token in used)
    return (f"the token is shorter than {SHORT_TOKEN} characters and may be guessed",) if short else ()


def _tokens_in(path: Path, file: str) -> tuple[str, ...]:
    try:
        if not path.is_file() and path.exists():
            raise SettingsWrong(f"{file}={path} must be a regular file")
        with path.open(encoding="ascii") as opened:
            return tokens(opened.read(TOKEN_FILE_BYTES))
    except OSError as error:
        raise SettingsWrong(f"{file}={path} cannot be read: {os.strerror(error.errno or 0)}") from None
    except (UnicodeDecodeError, ValidationError):
        raise SettingsWrong(f"{file}={path} must hold one token or two with a comma between them") from None
