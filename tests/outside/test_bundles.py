"""Folders as archives: what goes in, that it is always the same, and that nothing comes out where it should not."""

import gzip
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skyclaw.outside import bundles
from skyclaw.outside.bundles import Bounds, BundleWrong, packed, unpack
from tests.support.ordinary_user import ordinary_user

Tree = dict[str, str]


def plant(folder: Path, tree: Tree) -> Path:
    """Make files with these contents; a path that ends with a slash is an empty folder."""
    for path, content in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).mkdir() if path.endswith("/") else (folder / path).write_text(content)
    return folder


def names(folder: Path) -> list[str]:
    """What a bundle of the folder holds."""
    with packed(folder) as bundle, tarfile.open(bundle.path) as archive:
        return archive.getnames()


def digest(folder: Path) -> str:
    with packed(folder) as bundle:
        return bundle.sha256


def tree_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Every entry with its kind and mode, and its content or where it leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (stat.filemode(path.lstat().st_mode), content)
    return found


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A small application."""
    app = plant(tmp_path / "app", {"server.js": "listen()", "lib/é.js": "x" * 100_000, "bin/run": "#!/bin/sh", "data/": ""})
    (app / "bin/run").chmod(0o700)
    (app / "lib/private").write_text("")
    (app / "lib/private").chmod(0o600)
    (app / "lib/index.js").symlink_to("é.js")
    (app / "current").symlink_to("lib/../bin")
    return app


# There and back.


def test_a_tree_comes_out_as_it_went_in_with_modes_for_everybody(app: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with packed(app) as bundle:
            assert bundle.bytes == bundle.path.stat().st_size
            unpack(bundle.path, tmp_path / "out")
    finally:
        os.umask(before)
    assert tree_of(tmp_path / "out") == {
        "bin": ("drwxr-xr-x", ""),
        "bin/run": ("-rwxr-xr-x", "#!/bin/sh"),
        "current": ("lrwxrwxrwx", "lib/../bin"),
        "data": ("drwxr-xr-x", ""),
        "lib": ("drwxr-xr-x", ""),
        "lib/index.js": ("lrwxrwxrwx", "é.js"),
        "lib/private": ("-rw-r--r--", ""),
        "lib/é.js": ("-rw-r--r--", "x" * 100_000),
        "server.js": ("-rw-r--r--", "listen()"),
    }
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


def test_the_archive_is_gone_afterwards(app: Path) -> None:
    with packed(app) as bundle:
        path = bundle.path
    assert not path.exists()


def test_the_same_tree_has_the_same_hash_wherever_and_whenever_it_was_made(app: Path, tmp_path: Path) -> None:
    other = tmp_path / "deeper/copy"
    shutil.copytree(app, other, symlinks=True)
    for path in other.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (other / "lib/private").chmod(0o666)
    (other / "lib").chmod(0o700)
    late = other / "a-last-file"
    late.write_text("")
    late.unlink()
    assert digest(app) == digest(other)
    (other / "bin/run").chmod(0o600)
    assert digest(app) != digest(other)


def test_an_archive_says_nothing_of_time_or_owner_and_is_in_order(app: Path) -> None:
    with packed(app) as bundle:
        assert bundle.path.read_bytes()[4:8] == b"\0\0\0\0"
        with tarfile.open(bundle.path) as archive:
            members = archive.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, 0, "", "")}
    assert [member.name for member in members] == [
        "bin",
        "bin/run",
        "current",
        "data",
        "lib",
        "lib/index.js",
        "lib/private",
        "lib/é.js",
        "server.js",
    ]


def test_a_name_that_is_no_text_arrives(tmp_path: Path) -> None:
    app = plant(tmp_path / "app", {os.fsdecode(b"\xff\xfe"): "x", "long/" + "n" * 200 + "/" + "m" * 200: "y"})
    with packed(app) as bundle:
        unpack(bundle.path, tmp_path / "out")
    assert tree_of(tmp_path / "out") == tree_of(app)


# What is left out.


IGNORED: Tree = {
    ".gitignore": "*.log\n/build/\n!keep.log\nnode_modules\n# a comment\n\\#odd\ndeep/**/temp\nall/**\n!all/kept\nsome/*\n!some/kept\n"
    "!\n\\\n[\ntrailing  \nspaced\\ \n",
    "a.log": "",
    "keep.log": "",
    "sub/b.log": "",
    "sub/.gitignore": "!b.log\n/only-here\nc.txt/\n",
    "sub/c.txt": "",
    "sub/only-here": "",
    "sub/deeper/only-here": "",
    "sub/deeper/b.log": "",
    "sub/deeper/.gitignore": "\ufeff*.md\r\n!x.md\r\n",
    "sub/deeper/y.md": "",
    "sub/deeper/x.md": "",
    "build/out": "",
    "other/build/out": "",
    "node_modules/x/index.js": "",
    "node_modules/.gitignore": "!*",
    "lib/node_modules/y.js": "",
    "#odd": "",
    "# a comment": "",
    "deep/temp": "",
    "deep/1/2/temp/x": "",
    "deep/1/temporary": "",
    "all/kept": "",
    "all/left": "",
    "some/kept": "",
    "some/left/x": "",
    "trailing": "",
    "spaced ": "",
}


def files_by_git(folder: Path) -> set[str]:
    """What git takes of a folder."""
    home = {**os.environ, "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "init", "-q"], cwd=folder, env=home, check=True)
    words = ["git", "ls-files", "-z", "--others", "--exclude-standard"]
    return set(subprocess.run(words, cwd=folder, env=home, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip("\0").split("\0"))


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_exactly_the_files_that_git_takes_are_packed(tmp_path: Path) -> None:
    app = plant(tmp_path / "app", IGNORED)
    taken = files_by_git(app)
    assert {name for name in names(app) if not (app / name).is_dir()} == taken
    assert {"keep.log", "sub/b.log", "all/kept", "sub/deeper/x.md", "sub/c.txt"} <= taken


def test_everything_of_git_is_left_out_wherever_it_is(tmp_path: Path) -> None:
    app = plant(
        tmp_path / "app", {".git/config": "", "module/.git": "gitdir: x", "deep/.git/x": "", ".github/x": "", ".gitignore": "!.git"}
    )
    assert names(app) == [".github", ".github/x", ".gitignore", "deep", "module"]


def test_a_file_of_our_own_takes_the_place_of_every_gitignore(tmp_path: Path) -> None:
    tree = {
        ".skyclawignore": ".env\n/secret/\n!dist\n",
        ".gitignore": "dist\n*.js\n",
        "sub/.gitignore": "*\n",
        "dist/a.js": "",
        ".git/x": "",
    }
    app = plant(tmp_path / "app", {**tree, ".env": "", "sub/.env": "", "sub/x": "", "secret/y": "", "sub/.skyclawignore": "x"})
    with packed(app) as bundle:
        unpack(bundle.path, tmp_path / "out")
    files = {name for name, (mode, _) in tree_of(tmp_path / "out").items() if not mode.startswith("d")}
    assert files == {".gitignore", "dist/a.js", "sub/.gitignore", "sub/.skyclawignore", "sub/x"}
    assert (bundle.files, bundle.left_out, bundle.rules) == (5, (".env", "secret/", "sub/.env"), ".skyclawignore")


def test_of_what_is_left_out_the_topmost_paths_are_told(tmp_path: Path) -> None:
    app = plant(tmp_path / "app", {".gitignore": "dist\n", "dist/a/b": "", "sub/dist/c": "", "sub/d": "", ".git/x": ""})
    with packed(app) as bundle:
        assert (bundle.files, bundle.left_out, bundle.rules) == (2, ("dist/", "sub/dist/"), ".gitignore")


def test_a_gitignore_that_is_a_link_or_a_folder_has_no_rules(tmp_path: Path) -> None:
    app = plant(tmp_path / "app", {"rules": "*", "sub/.gitignore/x": ""})
    (app / ".gitignore").symlink_to("rules")
    assert names(app) == [".gitignore", "rules", "sub", "sub/.gitignore", "sub/.gitignore/x"]


# What cannot be packed.


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../outside", "lib/../../outside", "hop/x", "/app/x"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, target: str) -> None:
    app = plant(tmp_path / "app", {"lib/x": "", "deep/er/x": ""})
    (app / "hop").symlink_to("..")
    if target != "hop/x":
        (app / "hop").unlink()
    (app / "link").symlink_to(target)
    with pytest.raises(BundleWrong, match=r"(link|hop) is a link that leads out of the folder"), packed(app):
        pass


def test_a_link_that_leads_out_by_another_link_is_refused(tmp_path: Path) -> None:
    """By its words it stays inside."""
    app = plant(tmp_path / "app", {"a/b/x": ""})
    (app / "a/b/top").symlink_to("../..")
    (app / "out").symlink_to("a/b/top/..")
    with pytest.raises(BundleWrong, match="out is a link that leads out"), packed(app):
        pass


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_neither_file_nor_folder_nor_link_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = plant(tmp_path / "app", {"x": ""})
    monkeypatch.chdir(app)
    with socket.socket(socket.AF_UNIX) as listener:
        os.mkfifo("odd") if kind == "pipe" else listener.bind("odd")
        with pytest.raises(BundleWrong, match="odd is neither a file nor a folder nor a link"), packed(app):
            pass


def test_a_file_that_cannot_be_read_is_named() -> None:
    with ordinary_user() as folder:
        app = plant(folder / "app", {"lib/private": "mine"})
        (app / "lib/private").chmod(0)
        with pytest.raises(BundleWrong, match="lib/private cannot be packed: Permission denied"), packed(app):
            pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleWrong, match="none cannot be packed: No such file or directory"), packed(tmp_path / "none"):
        pass


def test_a_folder_that_is_too_large_is_refused(app: Path) -> None:
    with pytest.raises(BundleWrong, match=r"with lib/é\.js the folder has more than 90000 bytes"), packed(app, Bounds(90_000, 100)):
        pass
    with pytest.raises(BundleWrong, match="more than 8 entries"), packed(app, Bounds(1_000_000, 8)):
        pass
    with packed(app, Bounds(1_000_000, 9)) as bundle:
        assert bundle.bytes < 90_000


# Archives of others.


Members = list[tuple[tarfile.TarInfo, bytes]]


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname, member.mode = kind, len(content), link, mode
    return member, content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, link=target)


def archive_of(folder: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path = folder / "bundle.tar.gz"
    with tarfile.open(path, "w:gz", format=form) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def spot(tmp_path: Path) -> Iterator[Path]:
    """Where it is unpacked; whatever happens, nothing else changes around it, and nothing is left of a failure."""
    (tmp_path / "outside").write_text("untouched")
    yield tmp_path / "spot/out"
    assert (tmp_path / "outside").read_text() == "untouched"
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "spot", "bundle.tar.gz"}
    assert [path.name for path in (tmp_path / "spot").iterdir()] in ([], ["out"])


WRONG: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "absolute": ([entry("/etc/x")], "no path inside"),
    "upwards": ([entry("../x")], "no path inside"),
    "upwards later": ([entry("a/../../x")], "no path inside"),
    "upwards and back": ([entry("a/../x")], "no path inside"),
    "the top as a file": ([entry("./")], "no path inside"),
    "no name": ([entry(".")], "no path inside"),
    "device": ([entry("x", tarfile.CHRTYPE)], "neither a file"),
    "disk": ([entry("x", tarfile.BLKTYPE)], "neither a file"),
    "pipe": ([entry("x", tarfile.FIFOTYPE)], "neither a file"),
    "hard link": ([entry("x"), entry("y", tarfile.LNKTYPE, link="x")], "neither a file"),
    "hard link out": ([entry("y", tarfile.LNKTYPE, link="../../outside")], "neither a file"),
    "absolute link": ([link("x", "/etc/passwd")], "leads out"),
    "link upwards": ([link("x", "../outside")], "leads out"),
    "deep link upwards": ([link("a/b/x", "../../../outside")], "leads out"),
    "file through a link": ([link("x", "../.."), entry("x/outside", content=b"touched")], "twice"),
    "file through a link inside": ([entry("a/b"), link("x", "a"), entry("x/c")], "twice"),
    "folder through a link": ([link("x", "../.."), entry("x/new/", tarfile.DIRTYPE)], "twice"),
    "file over a link": ([link("x", "../../outside"), entry("x", content=b"touched")], "twice"),
    "folder over a link": ([link("x", "../.."), entry("x", tarfile.DIRTYPE), entry("x/outside", content=b"touched")], "twice"),
    "link over a file": ([entry("x"), link("x", "y")], "twice"),
    "link over a folder": ([entry("x/y"), link("x", "y")], "twice"),
    "file twice": ([entry("x", content=b"1"), entry("./x", content=b"2")], "twice"),
    "file as a folder": ([entry("x"), entry("x/y")], "twice"),
    "link by a later link": ([link("z", "a/b/c/../outside"), link("a/b/c", "../.."), entry("a/x")], "leads out"),
    "link by an earlier link": ([link("a/b/c", "../.."), link("z", "a/b/c/../../outside")], "leads out"),
    "name that is too long": ([entry("x" * 300)], "File name too long"),
    "link to nothing": ([link("x", "")], "No such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_archive_that_breaks_a_rule_is_refused_and_leaves_nothing(tmp_path: Path, spot: Path, case: str) -> None:
    members, reason = WRONG[case]
    spot.parent.mkdir()
    with pytest.raises(BundleWrong, match=reason):
        unpack(archive_of(tmp_path, entry("first/file"), *members), spot)
    assert not spot.exists()


def test_an_archive_as_tar_makes_it_is_unpacked(tmp_path: Path, spot: Path) -> None:
    """With the top itself, folders that come twice or are left out, special bits, and links to what is not there."""
    spot.parent.mkdir()
    members = [
        entry("./", tarfile.DIRTYPE, mode=0o700),
        entry("./a/", tarfile.DIRTYPE, mode=0o000),
        entry("./a", tarfile.DIRTYPE),
        entry("./a/run", content=b"run", mode=0o6755),
        entry("b//c/./d", content=b"d", mode=0o000),
        link("a/up", "../b/c"),
        link("nowhere", "not/there"),
    ]
    unpack(archive_of(tmp_path, *members), spot)
    assert tree_of(spot) == {
        "a": ("drwxr-xr-x", ""),
        "a/run": ("-rwxr-xr-x", "run"),
        "a/up": ("lrwxrwxrwx", "../b/c"),
        "b": ("drwxr-xr-x", ""),
        "b/c": ("drwxr-xr-x", ""),
        "b/c/d": ("-rw-r--r--", "d"),
        "nowhere": ("lrwxrwxrwx", "not/there"),
    }


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, spot: Path) -> None:
    plant(spot, {"mine": "mine"})
    with pytest.raises(OSError, match="not empty"):
        unpack(archive_of(tmp_path, entry("x")), spot)
    assert tree_of(spot) == {"mine": ("-rw-r--r--", "mine")}


def test_an_empty_folder_is_filled(tmp_path: Path, spot: Path) -> None:
    spot.mkdir(parents=True)
    unpack(archive_of(tmp_path, entry("x")), spot)
    assert list(tree_of(spot)) == ["x"]


def zeros(size: int) -> tuple[tarfile.TarInfo, bytes]:
    return entry("zeros", content=bytes(size))


@pytest.mark.parametrize(
    ("members", "bounds", "reason"),
    [
        ([zeros(3_000_000)], Bounds(2_000_000, 10), "more than 2000000 bytes"),
        ([entry(str(n)) for n in range(11)], Bounds(2_000_000, 10), "more than 10 entries"),
        ([entry("x", tarfile.XHDTYPE, b"30 comment=" + b"x" * 3_000_000)], Bounds(100_000_000, 10), "a header that is too large"),
        ([entry("x", tarfile.GNUTYPE_LONGNAME, b"x" * 3_000_000)], Bounds(100_000_000, 10), "a header that is too large"),
    ],
)
def test_an_archive_that_takes_too_much_is_refused(tmp_path: Path, spot: Path, members: Members, bounds: Bounds, reason: str) -> None:
    spot.parent.mkdir()
    with pytest.raises(BundleWrong, match=reason):
        unpack(archive_of(tmp_path, *members), spot, bounds)


def test_what_follows_the_end_of_an_archive_counts_too(tmp_path: Path, spot: Path) -> None:
    spot.parent.mkdir()
    path = archive_of(tmp_path, entry("x"))
    with path.open("ab") as file:
        file.write(gzip.compress(bytes(5_000_000)))
    with pytest.raises(BundleWrong, match="more than 3000000 bytes"):
        unpack(path, spot, Bounds(3_000_000, 10))


def test_a_file_that_only_pretends_to_be_large_is_refused(tmp_path: Path, spot: Path) -> None:
    spot.parent.mkdir()
    member, content = entry("x", content=b"abc")
    member.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.size": "100000000"}
    with pytest.raises(BundleWrong, match="neither a file"):
        unpack(archive_of(tmp_path, (member, content)), spot)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "cut at its end": lambda whole: whole[:-1],
    "another checksum": lambda whole: whole[:-8] + b"\0\0\0\0" + whole[-4:],
    "a byte changed": lambda whole: whole[:1_000] + bytes([whole[1_000] ^ 1]) + whole[1_001:],
    "nothing": lambda _: b"",
    "no archive": lambda _: b"hello",
    "no tar": lambda _: gzip.compress(b"hello"),
    "not compressed": lambda whole: gzip.decompress(whole),
    "headers without end": lambda _: gzip.compress(endless_headers()),
}


def endless_headers() -> bytes:
    """Each of them belongs to the one after it."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 9
    return (member.tobuf() + b"9 a=bcd\n\n".ljust(512, b"\0")) * 5_000


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path: Path, spot: Path, damage: str) -> None:
    spot.parent.mkdir()
    path = archive_of(tmp_path, entry("x", content=os.urandom(20_000)), entry("y", content=os.urandom(20_000)))
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(BundleWrong, match="the bundle is damaged"):
        unpack(path, spot)
    assert not spot.exists()


def test_a_disk_that_is_full_is_no_fault_of_the_archive(tmp_path: Path, spot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    spot.parent.mkdir()
    monkeypatch.setattr(bundles.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(archive_of(tmp_path, entry("x")), spot)
    assert not spot.exists()
