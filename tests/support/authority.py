"""A certificate authority of our own, and what it says of this machine."""

import ssl
import subprocess
from pathlib import Path


class Authority:
    """`file` is its certificate; `context` is for a server on 127.0.0.1 that is also called peer.example."""

    def __init__(self, folder: Path) -> None:
        self.file, key = folder / "authority.pem", folder / "authority.key"
        subject, names = folder / "server.csr", folder / "names"
        self._certificate, self._key = folder / "server.pem", folder / "server.key"
        names.write_text("subjectAltName=DNS:peer.example,IP:127.0.0.1\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._run("req", "-x509", *curve, "-keyout", key, "-out", self.file, "-subj", "/CN=authority", "-days", "2")
        self._run("req", *curve, "-keyout", self._key, "-out", subject, "-subj", "/CN=server")
        signed_by = ["-CA", self.file, "-CAkey", key, "-CAcreateserial"]
        self._run("x509", "-req", "-in", subject, *signed_by, "-out", self._certificate, "-days", "2", "-extfile", names)

    @property
    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._key)
        return context

    @staticmethod
    def _run(*command: object) -> None:
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True, timeout=60)
