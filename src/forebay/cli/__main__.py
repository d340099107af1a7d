"""``forebay``: exit code 0 if all went well, 1 if something failed, 2 if the call was wrong, 3 if the server is away, 130 after Ctrl-C."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line and return the exit code."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        print(f"forebay: the command line needs {error.name}: pip install 'forebay[cli]'", file=sys.stderr)
        return 2
    from .app import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
