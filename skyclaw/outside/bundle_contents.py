"""What of a folder goes into a bundle, and what is left out.

1. What the `.gitignore` files in the folder and below it leave out is left out, as git does it.
2. A `.skyclawignore` at the top takes the place of all of them; it has the same syntax, and is left out itself.
3. Every `.git` is left out.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from skyclaw.errors import Invalid

if TYPE_CHECKING:
    from skyclaw.outside.ignoring import Ignoring

GITIGNORE, SKYCLAWIGNORE = ".gitignore", ".skyclawignore"
_NEVER = ".git"


class BundleWrong(Invalid):
    """The folder or archive cannot be used as a bundle."""

    code = "bundle_wrong"


def cannot_be_packed(path: str, error: OSError) -> BundleWrong:
    """What stands in the way, and where."""
    return BundleWrong(f"{path} cannot be packed: {error.strerror or error}")


class Contents:
    """The entries of a folder. While they are taken, `left_out` grows: what the files named `rules` leave out, folders with a slash."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._has_own_rules = _is_file(top / SKYCLAWIGNORE)
        self.rules = SKYCLAWIGNORE if self._has_own_rules else GITIGNORE
        self.left_out: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """Those that are not left out, each after the folder that it is in, by their paths from the top. Raises BundleWrong."""
        waiting: list[tuple[str, tuple[Ignoring, ...]]] = [("", ())]
        while waiting:
            folder, rules = waiting.pop()
            if folder:
                yield folder.removesuffix("/")
            if folder and not folder.endswith("/"):
                continue
            entries, rules = self._listed(folder, rules)
            for entry in reversed(entries):
                path = f"{folder}{entry.name}{'/' if entry.is_dir(follow_symlinks=False) else ''}"
                if entry.name == _NEVER or (self._has_own_rules and path == SKYCLAWIGNORE):
                    continue
                if _is_ignored(rules, path):
                    self.left_out.append(path)
                else:
                    waiting.append((path, rules))

    def _listed(self, folder: str, rules: "tuple[Ignoring, ...]") -> "tuple[list[os.DirEntry[str]], tuple[Ignoring, ...]]":
        """What is in a folder, in order, and the rules for it."""
        try:
            with os.scandir(self._top / folder) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
            if not (folder and self._has_own_rules) and any(entry.name == self.rules and _is_plain(entry) for entry in entries):
                rules = (*rules, _rules(folder, (self._top / folder / self.rules).read_bytes()))
        except OSError as error:
            raise cannot_be_packed(folder or str(self._top), error) from error
        return entries, rules


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_plain(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False)


def _rules(folder: str, text: bytes) -> "Ignoring":
    from skyclaw.outside.ignoring import Ignoring  # here: no host needs it, and it takes long to load

    return Ignoring(folder, text)


def _is_ignored(rules: "tuple[Ignoring, ...]", path: str) -> bool:
    """What the file that is nearest says of it, of those that say something. A folder's path ends with a slash."""
    return next((said for rule in reversed(rules) if (said := rule.ignores(path)) is not None), False)
