"""A service for tests: `python small_service.py <folder>`; what files are in the folder says how it behaves.

It listens on $PORT of all addresses, and answers every path with its process id, the name of the service and the folder that it runs in;
`/health` with 503 while there is a file `sick`, `/slow` when there is a file `go`; at `/crash` it exits with 3. With a file `stubborn` it
ignores SIGTERM.
"""

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self) -> None:
        if self.path == "/crash":
            os._exit(3)
        while self.path == "/slow" and not (FOLDER / "go").exists():
            time.sleep(0.02)
        self.send_response(503 if self.path == "/health" and (FOLDER / "sick").exists() else 200)
        body = f"{os.getpid()} {os.environ['SKYCLAW_SERVICE_NAME']} {Path.cwd()}".encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


if (FOLDER / "stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write(f"pid {os.getpid()}\n")
sys.stdout.flush()
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()  # noqa: S104  # as services do
