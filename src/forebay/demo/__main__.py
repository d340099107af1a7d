"""``python -m forebay.demo``: exit code 0 after Ctrl-C or SIGTERM, 1 with one line if it cannot start; never a traceback."""

from __future__ import annotations

import sys

from .ending import Ending


def main() -> int:
    """Run the demo and return the exit code."""
    ending = Ending()
    ending.listen()

    # Imported here, because FastAPI and SQLAlchemy take most of a second, in which Ctrl-C should already end quietly.
    from ..errors import ForebayError
    from .serving import CannotStart, run
    from .settings import DemoSettings

    try:
        run(DemoSettings.from_env(), ending)
    except (CannotStart, ForebayError) as error:
        if ending.wanted:  # what broke off because it was told to has not failed
            return 0
        print(f"forebay.demo: {error}", file=sys.stderr)
        return 1
    finally:
        ending.over()
    return 0


if __name__ == "__main__":
    sys.exit(main())
