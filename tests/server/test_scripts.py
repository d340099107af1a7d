"""Scripts travel as their digest, and survive a server that has forgotten them."""

import pytest

from forebay import ServerError
from forebay.port.port import complete
from forebay.port.scripts import Script

COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


async def run(either, script, keys=(), args=()):
    if hasattr(either, "wrapped"):
        return complete(script.run(either.wrapped.port, keys, args))
    return await script.run(either.port, keys, args)


async def test_a_script_runs_once_also_when_the_server_does_not_know_it(either, prefix):
    await either.execute("SCRIPT", "FLUSH")
    assert await run(either, COUNT, [f"{prefix}n"], [5]) == 5
    assert await run(either, COUNT, [f"{prefix}n"], [2]) == 7
    assert await either.execute("SCRIPT", "EXISTS", COUNT.digest) == [1]
    await either.execute("SCRIPT", "FLUSH")
    assert await run(either, COUNT, [f"{prefix}n"], [1]) == 8


async def test_a_failing_script_is_the_callers_error(either, prefix):
    broken = Script("return redis.call('INCR', KEYS[1], 'too', 'many')")
    with pytest.raises(ServerError):
        await run(either, broken, [f"{prefix}n"])
    assert await either.execute("PING") == b"PONG"
    assert repr(COUNT).startswith("Script(")
