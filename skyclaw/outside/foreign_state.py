"""Reads the whole state of a coordinator of the TypeScript version, which is one answer, however large."""

import json
import re
import time
from typing import Any

import requests
import urllib3

from skyclaw import __version__
from skyclaw.errors import NotACoordinator, Unreachable
from skyclaw.outside import http_answers
from skyclaw.outside.http_answers import Foreign, NoAnswer

CONNECT_S, SILENCE_S, WHOLE_S = 5.0, 60.0, 600.0
MAX_BYTES = 2 * 1024 * 1024 * 1024
HALVES = re.compile("[\ud800-\udfff]")  # of a surrogate pair, as cutting a text leaves them


def fetch(url: str, path: str, token: str | None) -> dict[str, Any]:
    """The JSON object at `path`; raises Unreachable, ServerRefused, NotACoordinator. Half surrogate pairs in it are replaced."""
    headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": f"skyclaw/{__version__}"}
    if token:
        headers["x-skyclaw-token"] = token
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.get(url + path, headers=headers, stream=True, timeout=(CONNECT_S, SILENCE_S), allow_redirects=False) as answer:
                return _object(answer)
    except Foreign:
        raise NotACoordinator(url) from None
    except NoAnswer as reason:
        raise Unreachable({url: str(reason)}) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
        raise Unreachable({url: str(http_answers.in_plain_words(error))}) from error


def _object(answer: requests.Response) -> dict[str, Any]:
    """As `http_answers.judge`, for a body of any size, in JSON as JavaScript writes it."""
    if answer.status_code != 200:
        return http_answers.judge(answer, http_answers.read(answer, time.monotonic() + WHOLE_S))
    body = _read(answer)
    try:
        said = json.loads(body)
    except ValueError:
        raise Foreign("not a Skyclaw coordinator") from None
    if not isinstance(said, dict):
        raise Foreign("not a Skyclaw coordinator")
    whole: dict[str, Any] = _mended(said)
    return whole


def _read(answer: requests.Response) -> bytearray:
    body, ends = bytearray(), time.monotonic() + WHOLE_S
    while piece := answer.raw.read1(1024 * 1024, decode_content=False):
        body += piece
        if len(body) > MAX_BYTES:
            raise NoAnswer("answer too large")
        if time.monotonic() > ends:
            raise NoAnswer("timed out")
    return body


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value if value.isascii() else HALVES.sub("\N{REPLACEMENT CHARACTER}", value)
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {_mended(name): _mended(item) for name, item in value.items()}
    return value
