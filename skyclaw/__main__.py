"""`python -m skyclaw` and the console script: finds its own packages, whatever lies in the current folder, and calls the command line."""

import os
import sys


def main() -> int:
    """Run the command line of this process; the answer is the exit code."""
    prefer_own_packages()
    try:
        from skyclaw.entrypoints import cli
    except KeyboardInterrupt:
        return 130
    return cli.main(sys.argv[1:], os.environ)


def prefer_own_packages() -> None:
    """Put the folder that holds this package first on the path and drop the current one, which may have an `api` of its own."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        here = os.getcwd()
    except FileNotFoundError:  # the folder was deleted under us
        here = ""
    sys.path[:] = [own, *(entry for entry in sys.path if entry not in ("", ".", here, own))]


if __name__ == "__main__":
    sys.exit(main())
