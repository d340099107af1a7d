"""Run as a script: holds one server process, and ends it when its owner goes away, however the owner went.

``python supervisor.py DIRECTORY COMMAND...`` with a pipe as standard input. The pipe's other end belongs to the owner and
is never written to: end of file means that the owner is gone, also after SIGKILL. Then the server is stopped and
DIRECTORY removed. A forked child of the owner may hold the pipe open, so the owner's process id is watched as well.
Only the standard library is used, so that this starts in milliseconds.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_GRACE_MS = 500
_TELL_AFTER = 5.0  # seconds
_LOOK_EVERY_MS = 1000


def main() -> int:
    directory, command = sys.argv[1], sys.argv[2:]
    owner = os.getppid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    with open(os.path.join(directory, "server.log"), "ab") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, preexec_fn=_die_with_parent)
    try:
        _watch(server, owner)
        if server.poll() is not None:  # by itself: leave its log for a moment to the owner, who wants to know why
            _closed(_GRACE_MS)
    finally:
        _stop(server)
        shutil.rmtree(directory, ignore_errors=True)
    return server.returncode or 0


def _watch(server: "subprocess.Popen[bytes]", owner: int) -> None:
    while server.poll() is None and os.getppid() == owner:
        if _closed(_LOOK_EVERY_MS):
            return


def _closed(patience_ms: int) -> bool:
    """Whether the owner closes its end of the pipe within so many milliseconds."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(patience_ms))


def _stop(server: "subprocess.Popen[bytes]") -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(3)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _die_with_parent() -> None:
    """On Linux the kernel ends the server should this supervisor itself be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Wait, as the owner who has closed its end of the pipe, until the supervisor is gone. A child forked meanwhile may
    hold the pipe open: then the supervisor is told."""
    try:
        process.wait(_TELL_AFTER)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
