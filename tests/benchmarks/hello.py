"""Hello world, as fast as this stack says it: on our server, and on waitress as it comes, in an interpreter tuned like a coordinator."""

import gc
import sys
import threading
from multiprocessing.connection import Connection

import falcon
from falcon import Request, Response
from waitress.server import create_server  # type: ignore[import-untyped]

from skyclaw.entrypoints.coordinator import SWITCH_INTERVAL_S, YOUNG_OBJECTS
from skyclaw.entrypoints.serve import THREADS, Server


class Hello:
    """Says so."""

    def on_get(self, _req: Request, resp: Response) -> None:
        """A constant."""
        resp.data = b"hello, world\n"


def serve_hello(link: Connection) -> None:
    """A child's main function: tells its port, and serves until the link is closed."""
    _tune_interpreter()
    server = Server(_app(), "127.0.0.1", 0)
    server.start()
    try:
        _wait(link, server.port)
    finally:
        server.stop()


def serve_hello_as_it_comes(link: Connection) -> None:
    """The same, on a waitress that nobody has laid a hand on."""
    _tune_interpreter()
    server = create_server(_app(), host="127.0.0.1", port=0, threads=THREADS)
    threading.Thread(target=server.run, daemon=True).start()
    _wait(link, server.effective_port)


def _app() -> falcon.App[Request, Response]:
    app: falcon.App[Request, Response] = falcon.App("text/plain")
    app.add_route("/", Hello())
    return app


def _tune_interpreter() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


def _wait(link: Connection, port: int) -> None:
    gc.freeze()
    link.send(port)
    link.recv()
