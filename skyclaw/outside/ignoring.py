"""What a `.gitignore` file, or one of its kind, leaves out of a folder."""

import re
import warnings

from pathspec import GitIgnoreSpec

_ALL_INSIDE = re.compile(r"/\*\*(?= *$)")  # becomes `/**/*`, because the library takes `a/**` for a match of `a/` too


class Ignoring:
    """The rules of one .gitignore file, which count for what is below `folder`: a path from the top that ends with a slash, or nothing."""

    def __init__(self, folder: str, text: bytes) -> None:
        self._folder, self._spec = folder, _spec(text)

    def ignores(self, path: str) -> bool | None:
        """Whether this path from the top is left out; None when the file does not say. A folder's path ends with a slash."""
        return self._spec.check_file(path[len(self._folder) :]).include


def _spec(text: bytes) -> GitIgnoreSpec:
    """The rules of a .gitignore file; lines that are none count for nothing, as they do for git."""
    lines = text.decode("utf-8-sig", "surrogateescape").split("\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the module re, about what somebody else wrote
        return GitIgnoreSpec.from_lines(filter(_is_rule, (_ALL_INSIDE.sub("/**/*", line) for line in lines)))


def _is_rule(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):
        return False
    return True
