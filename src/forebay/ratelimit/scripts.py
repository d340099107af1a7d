"""The scripts of limits, put together from the texts in ``lua/``: one decides, by whatever law; one looks after slots."""

from __future__ import annotations

import pkgutil
from functools import cache
from typing import Final, Literal, get_args

from ..port.scripts import Script

__all__ = ["LAWS", "LETTERS", "OWN_RATES", "Law", "decides", "slots"]

Law = Literal["gcra", "fixed_window", "sliding_window", "sliding_log"]
LAWS: Final[tuple[Law, ...]] = get_args(Law)
LETTERS: Final[dict[Law, str]] = {"gcra": "g", "fixed_window": "f", "sliding_window": "w", "sliding_log": "l"}
"""What a law is called in a script's words; in a capital letter for a policy in shadow."""

# KEYS[1]: state, KEYS[2]: the key's own rates. ARGV: those, or "" to remove them; milliseconds. Setting the lifetime of the state
# anew, to what it is, tells whoever remembers a refusal.
OWN_RATES: Final = Script(
    """
local had = redis.call('EXISTS', KEYS[2])
if ARGV[1] == '' then redis.call('UNLINK', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
return had
"""
)


_MATHS: Final = "local floor, max, min = math.floor, math.max, math.min\nlocal fresh = {}"


@cache
def decides() -> Script:
    """Return the script that decides."""
    return Script("\n".join(map(_text, ("begin", "quick", "head", *LAWS, "main"))))


@cache
def slots() -> Script:
    """Return the script that takes slots, renews them and gives them back."""
    return Script("\n".join((_text("begin"), _MATHS, _text("head"), _text("slots"))))


def _text(name: str) -> str:
    data = pkgutil.get_data(__package__, f"lua/{name}.lua")
    assert data is not None  # it is part of the package  # noqa: S101
    return data.decode()
