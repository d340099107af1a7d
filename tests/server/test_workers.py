"""Web servers with several worker processes: a bay of the module is used before the fork and in each worker, and every answer is right."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

WSGI = """
import os
from forebay import Forebay
bay = Forebay(os.environ["SERVER"], prefix=os.environ["PREFIX"])
cache = bay.cache("page", ttl=60)
cache.set("before", "the fork")
parent = bay.execute("CLIENT", "ID")
def app(environ, start_response):
    key = environ["PATH_INFO"][1:]
    value = cache.get_or_set(key, lambda: f"value of {key}")
    again = cache.get(key)
    own = bay.execute("CLIENT", "ID") != parent
    start_response("200 OK", [("content-type", "text/plain")])
    return [f"{os.getpid()}|{value}|{again}|{cache.get('before')}|{own}".encode()]
"""

ASGI = """
import os
from forebay import AsyncForebay
bay = AsyncForebay(os.environ["SERVER"], prefix=os.environ["PREFIX"])
cache = bay.cache("page", ttl=60)
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await cache.set("before", "the fork")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await bay.close()
        return await send({"type": "lifespan.shutdown.complete"})
    key = scope["path"][1:]
    value = await cache.get_or_set(key, lambda: f"value of {key}")
    again = await cache.get(key)
    body = f"{os.getpid()}|{value}|{again}|{await cache.get('before')}|True".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
"""

GUNICORN = ["gunicorn", "--preload", "--workers", "2", "--threads", "4", "--no-control-socket", "--bind", "unix:{socket}", "app:app"]
UVICORN = ["uvicorn", "--workers", "2", "--uds", "{socket}", "app:app"]


@contextmanager
def served(command, program, folder, url, prefix):
    """Serve *program* on a Unix socket; yield the socket's path and the lines that the server wrote."""
    (folder / "app.py").write_text(program)
    path = folder / "web.sock"
    environment = os.environ | {"SERVER": url, "PREFIX": prefix, "PYTHONPATH": str(folder)}
    full = [sys.executable, "-m", *(part.format(socket=path) for part in command)]
    server = subprocess.Popen(full, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, ready = [], threading.Semaphore(0)

    def read():
        for line in server.stdout:
            lines.append(line)
            if "Booting worker" in line or "startup complete" in line:
                ready.release()
        ready.release(2)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(2):
            assert ready.acquire(timeout=30)
        assert server.poll() is None, "".join(lines)
        yield path, lines
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(15)
        finally:
            server.kill()
            server.wait()
            reader.join(10)
            server.stdout.close()


@pytest.mark.parametrize(("command", "program"), [(GUNICORN, WSGI), (UVICORN, ASGI)], ids=["gunicorn --preload", "uvicorn"])
def test_every_answer_of_every_worker_is_right(command, program, tmp_path, url, prefix):
    workers = set()
    with served(command, program, tmp_path, url, prefix) as (path, lines):

        def ask(caller):
            for number in range(5):
                key = f"{caller}.{number}"
                # a connection of its own for each request, so that both workers get some
                with httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url="http://app", timeout=30) as client:
                    worker, *said = client.get(f"/{key}").text.split("|")
                assert said == [f"value of {key}", f"value of {key}", "the fork", "True"]
                workers.add(worker)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
            rounds = iter(range(20))
            while len(workers) < 2:  # the kernel decides who takes a connection
                ask(f"more{next(rounds)}")
    said = "".join(lines)
    assert len(workers) == 2
    assert "Traceback" not in said, said
    assert "dropped" not in said, said
