"""A signal never raises: it is noted, and does what the present stage of the demo says, once.

An exception out of a signal handler can come up anywhere, also where it is swallowed (an import that compiles a validator)
or where it tears a clean-up apart.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

__all__ = ["Ending"]


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """The wish to end. ``wanted`` says whether there was a signal so far."""

    def __init__(self) -> None:
        self.wanted = False
        self._action: Callable[[], object] | None = None

    def listen(self) -> None:
        """Take SIGINT, SIGTERM and SIGHUP from here on."""
        for number in _SIGNALS:
            # nohup's wish is respected. SIGINT is ignored in a shell's background jobs, but whoever sends it to this process means it.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._noted)

    def does(self, action: Callable[[], object] | None) -> None:
        """Let the next signal call *action*; at once, if there was one already."""
        self._action = action
        if self.wanted:
            self._act()

    def over(self) -> None:
        """Ignore signals from here on: all is tidy, and an interpreter that shuts down would let the next one decide the exit code."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _noted(self, *_: object) -> None:
        self.wanted = True
        self._act()

    def _act(self) -> None:
        action, self._action = self._action, None  # once: what it started may be tidying up when the next signal comes
        if action is not None:
            action()
