"""How a service's process ended, in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.hosting.last_words import MOST_CHARACTERS, ending, last_words

NODE_MODULE = """node:internal/modules/cjs/loader:1210
  throw err;
  ^

Error: Cannot find module '/x/dist/server.js'
Require stack:
- /x/[eval]
    at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15)
    at evalScript (node:internal/process/execution:133:3) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/x/[eval]' ]
}

Node.js v20.20.2
"""
NODE_PACKAGE = """node:internal/modules/esm/resolve:873
  throw new ERR_MODULE_NOT_FOUND(packageName, fileURLToPath(base), null);
        ^

Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'y' imported from /x/server.mjs
    at packageResolve (node:internal/modules/esm/resolve:873:9) {
  code: 'ERR_MODULE_NOT_FOUND'
}

Node.js v20.20.2
"""
NODE_PORT = """node:events:502
      throw er; // Unhandled 'error' event
      ^

Error: listen EADDRINUSE: address already in use :::3000
    at Server.setupListenHandle [as _listen2] (node:net:1886:21)
    at process.processTicksAndRejections (node:internal/process/task_queues:83:21)
Emitted 'error' event on Server instance at:
    at emitErrorNT (node:net:1944:8)
    at process.processTicksAndRejections (node:internal/process/task_queues:82:21) {
  code: 'EADDRINUSE',
  port: 3000
}

Node.js v20.20.2
"""
NODE_HEAP = """<--- Last few GCs --->

[13771:0x93a7e20]       35 ms: Mark-Compact 10.5 (14.7) -> 9.7 (26.7) MB, allocation failure; scavenge might not succeed

FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
----- Native stack trace -----

 1: 0xb78db3 node::OOMErrorHandler(char const*, v8::OOMDetails const&) [node]
 3: 0xee85e7 v8::internal::V8::FatalProcessOutOfMemory(v8::internal::Isolate*, char const*, v8::OOMDetails const&) [node]
10: 0x195e476  [node]"""
PYTHON = """Traceback (most recent call last):
  File "/x/app.py", line 1, in <module>
    raise KeyError("first")
KeyError: 'first'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/x/app.py", line 3, in <module>
    import nope
ModuleNotFoundError: No module named 'nope'
"""
JAVA = """Exception in thread "main" java.lang.IllegalStateException: cannot start
\tat T.main(T.java:1)
Caused by: java.lang.NumberFormatException: For input string: "x"
\tat java.base/java.lang.NumberFormatException.forInputString(NumberFormatException.java:67)
\tat jdk.compiler/com.sun.tools.javac.launcher.Main.main(Main.java:132)
"""
GO = """panic: no configuration

goroutine 1 [running]:
main.main()
\t/x/main.go:5 +0x25
exit status 2
"""


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (NODE_MODULE, "Error: Cannot find module '/x/dist/server.js'"),
        (NODE_PACKAGE, "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'y' imported from /x/server.mjs"),
        (NODE_PORT, "Error: listen EADDRINUSE: address already in use :::3000"),
        (NODE_HEAP, "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"),
        (PYTHON, "ModuleNotFoundError: No module named 'nope'"),
        (JAVA, 'Caused by: java.lang.NumberFormatException: For input string: "x"'),
        (GO, "panic: no configuration"),
        ("bash: foo: command not found\n", "bash: foo: command not found"),
        ("cat: /nope: No such file or directory\nbye\n", "cat: /nope: No such file or directory"),
        ("first\nno database\n\n  \n", "no database"),
        ('{"level":"ERROR","msg":"no database"}\n{"level":"info","msg":"bye"}', '{"level":"ERROR","msg":"no database"}'),
        ("errors:\n  permission denied\n", "permission denied"),
        ("\x1b[31mError:\x1b[0m red\n", "Error: red"),
        ("10%\r20%\rError: half\tway\x07\u202e\n", "Error: half way??"),
        ("", None),
        (" \n\n", None),
    ],
)
def test_the_line_that_tells_why_is_found(printed: str, words: str | None) -> None:
    assert last_words(printed, True, ()) == words


@pytest.mark.parametrize(
    ("code", "signal", "printed", "line"),
    [
        (1, None, NODE_MODULE, "exited with code 1: Error: Cannot find module '/x/dist/server.js'"),
        (7, None, "", "exited with code 7"),
        (0, None, "bye\n", "exited with code 0: bye"),
        (134, "ABRT", NODE_HEAP, "killed by ABRT: FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"),
        (137, "KILL", "listening\nGET /\n", "killed by KILL"),
    ],
)
def test_the_line_begins_with_how_it_ended(code: int, signal: str | None, printed: str, line: str) -> None:
    assert ending(code, signal, printed, True, ()) == line


def test_secrets_are_left_out() -> None:
    values = ["short", "postgres://me:pass@db", "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----", "pass@db/longer than the other"]
    printed = "Error: short postgres://me:pass@db and MIIEvQIBADANBg"
    assert last_words(printed, True, values) == "Error: short *** and ***"
    assert last_words("Error: \x1b[1mpostgres://me:\x1b[0mpass@db", True, values) == "Error: ***"


def test_the_rest_of_a_secret_is_left_out_where_the_beginning_is_missing() -> None:
    assert last_words("cret-of-mine cannot be used", False, ["secret-of-mine"]) == "annot be used"
    assert last_words("cret", False, ["secret-of-mine"]) is None
    assert last_words("Error: whole", False, ()) == "Error: whole"


def test_long_lines_are_shortened() -> None:
    words = last_words(f"Error: {'x' * 300}", True, ())
    assert words is not None
    assert (len(words), words[:8], words[-2:]) == (MOST_CHARACTERS, "Error: x", "x…")
    exact = f"Error: {'x' * 193}"
    assert last_words(exact, True, ()) == exact


@given(st.text(), st.booleans(), st.lists(st.text(alphabet="abc", min_size=6), max_size=3))
def test_it_is_always_one_line_without_secrets(printed: str, whole: bool, values: list[str]) -> None:
    words = last_words(printed + "".join(values), whole, values)
    assert words is None or (words.isprintable() and 0 < len(words) <= MOST_CHARACTERS and not any(value in words for value in values))
