"""To be an ordinary user for a moment: root may read and write everything."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Whoever runs the tests is no root within; gives a folder of that user's."""
    folder = Path(tempfile.mkdtemp(prefix="skyclaw-ordinary-"))
    before = os.geteuid()
    try:
        if before == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        os.seteuid(before)
        shutil.rmtree(folder)
