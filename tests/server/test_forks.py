"""A forked child has connections of its own, and its parent never notices it."""

import subprocess
import sys

import pytest

THREADS = """
import os, sys, threading
from forebay import Forebay
bay = Forebay(sys.argv[1], prefix=sys.argv[2]).connect()
cache = bay.cache("user", ttl=60)
cache.set_many({n: f"value of {n}" for n in range(100)})
held, go = threading.Event(), threading.Event()
def loader():
    held.set(); go.wait(); return "loaded"
loading = threading.Thread(target=lambda: cache.get_or_set("shared", loader))
loading.start(); held.wait()
lock = bay._reporter._lock; lock.acquire(); cache._core._shared.flights._lock.acquire()  # as another thread might
parent = bay.execute("CLIENT", "ID")
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        wrong = sum(cache.get(n) != f"value of {n}" for _ in range(5) for n in range(100))
        own = cache.get_or_set("shared", lambda: "child's own") in ("child's own", "loaded")
        os._exit(0 if not wrong and own and bay.execute("CLIENT", "ID") != parent else 1)
    children.append(child)
lock.release(); cache._core._shared.flights._lock.release()
wrong = sum(cache.get(n) != f"value of {n}" for _ in range(20) for n in range(100))
go.set(); loading.join()
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(wrong, codes, bay.stats().wire.dropped)
bay.close()
"""

ASYNCIO = """
import asyncio, os, sys
from forebay import AsyncForebay
bay = AsyncForebay(sys.argv[1], prefix=sys.argv[2])
cache = bay.cache("user", ttl=60)
async def reads(times):
    return sum([(await cache.get(n)) != f"value of {n}" for _ in range(times) for n in range(100)])
async def parent():
    await cache.set_many({n: f"value of {n}" for n in range(100)})
    mine = await bay.execute("CLIENT", "ID")
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio._set_running_loop(None)
                async def work():
                    wrong, own = await reads(5), await bay.execute("CLIENT", "ID") != mine
                    await bay.close()
                    return wrong == 0 and own
                code = 0 if asyncio.new_event_loop().run_until_complete(work()) else 2
            finally:
                os._exit(code)
        children.append(child)
    wrong = await reads(20)
    codes = [os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) for child in children]
    wrong += await reads(5)
    print(wrong, codes, bay.stats().wire.dropped)
    await bay.close()
asyncio.run(parent())
"""


@pytest.mark.parametrize("program", [THREADS, ASYNCIO], ids=["threads", "asyncio"])
def test_a_forked_child_has_connections_of_its_own(program, url, prefix):
    done = subprocess.run([sys.executable, "-c", program, url, prefix], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "0 [0, 0, 0, 0] 0\n", done.stdout + done.stderr
