"""The command line against a real server: what it prints, where, which exit code it ends with, and what it never prints."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from typer.testing import CliRunner

import forebay
from forebay.cli.app import app
from tests.servers import free_ports

JOBS = """
import asyncio, os, time
from dataclasses import dataclass

@dataclass
class User:
    id: int

def pairs():
    for number in range(30):
        yield number, {"id": number}

def keys():
    return range(30)

async def async_keys():
    for number in range(30):
        yield number

async def listed():
    return list(range(30))

def load(key):
    return {"id": key}

async def load_later(key):
    await asyncio.sleep(0)
    return {"id": key}

def load_some(key):
    if key % 10 == 3:
        raise LookupError(f"no user {key}")
    return {"id": key}

def load_slowly(key):
    time.sleep(0.01)
    return {"id": key}

def many():
    return range(100_000)

def changing():
    return range(int(os.environ["FIRST"]), 100)

def broken():
    yield from range(60)
    raise ConnectionError("the database went away")

def whole():
    return range(100)

def wrong():
    raise ZeroDivisionError("a mistake in the user's code")

SETTINGS = {"ttl": "1h", "codec": "json"}
NUMBER = 5
"""

runner = CliRunner()


@pytest.fixture(autouse=True)
def jobs(tmp_path, monkeypatch):
    """A module of the user's, in the directory where the command is given."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "halting.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    yield
    sys.modules.pop("jobs", None)


@pytest.fixture
def called(url, prefix):
    """Call ``forebay warm`` in this process."""

    def call(*words, ttl="1h"):
        ttl = () if ttl is None else ("--ttl", ttl)
        return runner.invoke(app, ["warm", *words, "--namespace", "user", *ttl, "--url", url, "--prefix", prefix])

    return call


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_the_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"forebay {forebay.__version__}\n")


LIMITS = [("limit", *words) for words in ((), ("peek",), ("hit",), ("reset",), ("rates",))]


@pytest.mark.parametrize(
    "words", [(), ("warm",), ("ping",), ("cache",), ("cache", "clear"), ("cache", "delete-matching"), *LIMITS], ids=" ".join
)
def test_every_command_has_help(words):
    done = runner.invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) > 5
    assert "None" not in done.output


def test_ping(url):
    done = runner.invoke(app, ["ping", "--url", url])
    assert done.exit_code == 0
    assert re.fullmatch(rf"{re.escape(url)} answered in \d+\.\d\d ms\n", done.output)
    assert runner.invoke(app, ["ping"], env={"REDIS_URL": url}).exit_code == 0


def test_a_server_that_is_away_is_exit_code_3_and_one_line():
    port = free_ports(1)[0]
    done = run("ping", "--url", f"redis://ada:very-secret@127.0.0.1:{port}")
    assert done.returncode == 3
    assert done.stderr.startswith(f"forebay: cannot connect to 127.0.0.1:{port}")
    assert len(done.stderr.splitlines()) == 1
    assert "very-secret" not in done.stdout + done.stderr


def test_a_url_that_cannot_be_read_is_exit_code_2_without_its_password():
    done = run("ping", "--url", "rediss://ada:very-secret@host:port:7")
    assert done.returncode == 2
    assert "very-secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# warm


@pytest.mark.parametrize(
    "words",
    [
        ("jobs:pairs",),
        ("jobs:keys", "--loader", "jobs:load"),
        ("jobs:keys", "--loader", "jobs:load_later"),
        ("jobs:async_keys", "--loader", "jobs:load_later"),
        ("jobs:async_keys", "--loader", "jobs:load"),
        ("jobs:listed", "--loader", "jobs:load"),
    ],
    ids=" ".join,
)
def test_sources_and_loaders_of_either_colour(called, sync_bay, words):
    done = called(*words)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("user: 30 loaded, 0 skipped, 0 failed in ")
    users = sync_bay.cache("user")
    assert users.get_many(range(30)) == {number: {"id": number} for number in range(30)}
    assert 3590 < users.ttl(1) <= 3600
    assert "0 loaded, 30 skipped" in called(*words).output
    assert "30 loaded, 0 skipped" in called(*words, "--overwrite").output


def test_options_of_entries(called, sync_bay):
    users = sync_bay.cache("user")
    assert called("jobs:pairs", "--tag", "team", ttl="none").exit_code == 0
    assert users.ttl(1) == float("inf")
    users.invalidate_tags("team")
    assert users.get(1) is None
    assert called("jobs:pairs", "--options", "jobs:SETTINGS", ttl=None).exit_code == 0
    assert 3590 < users.ttl(1) <= 3600
    assert called("jobs:pairs", "--type", "jobs:User", "--overwrite").exit_code == 0
    user = sync_bay.cache("user", type=sys.modules["jobs"].User).get(1)
    assert (type(user).__name__, user.id) == ("User", 1)


def test_some_that_failed_are_listed_and_exit_code_1(called):
    done = called("jobs:keys", "--loader", "jobs:load_some", "--concurrency", "2")
    assert done.exit_code == 1
    assert "27 loaded, 0 skipped, 3 failed" in done.stdout
    assert sorted(done.stderr.splitlines()) == [f"  {key}: LookupError: no user {key}" for key in (13, 23, 3)]
    many = called("jobs:many", "--loader", "jobs:nothing_like_it")
    assert many.exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("jobs",), "is not MODULE:NAME"),
        (("no_such_module:keys",), "no module 'no_such_module'"),
        (("jobs:nothing",), "jobs has no 'nothing'"),
        (("jobs:NUMBER",), "is a int, not a function"),
        (("jobs:keys",), "item 0 of the source is a int, not a (key, value) pair: give pairs, or keys and a loader"),
        (("jobs:pairs", "--rate", "0"), "must be above zero"),
        (("jobs:pairs", "--concurrency", "0"), "concurrency"),
        (("jobs:pairs", "--checkpoint", ""), "must not be empty"),
        (("jobs:pairs", "--loader", "jobs:nothing"), "--loader"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_exit_code_2_and_no_traceback(called, words, message):
    done = called(*words)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize("ttl", [None, "soon", "-5"])
def test_a_lifetime_must_be_said(called, ttl):
    done = called("jobs:pairs", ttl=ttl)
    assert done.exit_code == 2
    assert "ttl" in done.output or "duration" in done.output


def test_an_error_in_the_users_code_is_the_users_to_see(url):
    for words, error in (("jobs:wrong", "ZeroDivisionError: a mistake"), ("halting:keys", "No module named 'a_package_that_is_not_there'")):
        done = run("warm", words, "--namespace", "user", "--ttl", "1h", "--url", url)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert error in done.stderr


def test_a_run_that_broke_is_gone_on_with(called, sync_bay, prefix):
    done = called("jobs:broken", "--loader", "jobs:load", "--checkpoint", "nightly", "--batch", "20")
    assert isinstance(done.exception, ConnectionError)
    assert sync_bay.execute("EXISTS", f"{prefix}user:#warm:nightly") == 1
    done = called("jobs:whole", "--loader", "jobs:load", "--checkpoint", "nightly", "--batch", "20")
    assert done.exit_code == 0
    assert "40 loaded, 0 skipped, 0 failed, 60 done before" in done.stdout
    assert sync_bay.execute("EXISTS", f"{prefix}user:#warm:nightly") == 0


def test_a_source_that_changed_is_begun_anew(url, prefix, sync_bay):
    with pytest.raises(ConnectionError):
        sync_bay.cache("user", ttl="1h").warm(_breaking(range(60)), lambda key: key, checkpoint="n", batch=20)
    words = ("warm", "jobs:changing", "--loader", "jobs:load", "--namespace", "user", "--ttl", "1h", "--checkpoint", "n")
    done = run(*words, "--url", url, "--prefix", prefix, FIRST="10")
    assert done.returncode == 0, done.stderr
    assert "starting from the beginning" in done.stderr
    assert "40 loaded, 50 skipped, 0 failed in" in done.stdout


def _breaking(items):
    yield from items
    raise ConnectionError("gone")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loader", ["load_slowly", "load_later"])
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(url, prefix, sync_bay, signum, loader):
    words = [
        "warm",
        "jobs:many",
        "--loader",
        f"jobs:{loader}",
        "--namespace",
        "user",
        "--ttl",
        "1h",
        "--batch",
        "40",
        "--checkpoint",
        "a name",
    ]
    secret = url.replace("redis://", "redis://default:very-secret@")  # the server asks for none, and takes any
    child = subprocess.Popen(
        [sys.executable, "-m", "forebay.cli", *words, "--url", secret, "--prefix", prefix],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    mark = f"{prefix}user:#warm:a name"
    try:
        limit = time.monotonic() + 30
        while not sync_bay.execute("EXISTS", mark):
            assert time.monotonic() < limit, "it never came so far"
            time.sleep(0.01)
    finally:
        child.send_signal(signum)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "very-secret" not in err
    assert f"--loader jobs:{loader}" in err
    assert "--checkpoint 'a name'" in err, "to be pasted into a shell"
    assert sync_bay.execute("EXISTS", mark) == 1


def test_a_server_that_goes_away_is_exit_code_3_and_says_how_to_go_on(tmp_path):
    (tmp_path / "dying.py").write_text(
        textwrap.dedent("""
        import os
        from forebay import EmbeddedServer
        server = EmbeddedServer(port=int(os.environ["AT"]))
        server.address()
        def keys():
            return range(1000)
        def load(key):
            if key == 100:
                server.stop()
            return key
        """)
    )
    port = free_ports(1)[0]
    words = ("--namespace", "user", "--ttl", "1h", "--batch", "20", "--checkpoint", "n", "--url", f"redis://127.0.0.1:{port}")
    done = run("warm", "dying:keys", "--loader", "dying:load", *words, AT=str(port))
    assert done.returncode == 3, done.stderr
    assert "to go on: forebay warm dying:keys --loader dying:load" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_sees_a_bar_and_a_pipe_sees_none(url, prefix):
    words = ["warm", "jobs:keys", "--loader", "jobs:load_slowly", "--namespace", "user", "--ttl", "1h", "--url", url, "--prefix", prefix]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "forebay.cli", *words], stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen, limit = b"", time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert b"\x1b[" in seen
    assert "30 loaded" in out
    piped = run(*words)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert "\x1b" not in piped.stdout


def test_the_counts_of_a_warming_are_there_for_programs(called):
    told = json.loads(called("jobs:keys", "--loader", "jobs:load", "--json").stdout)
    assert told.pop("seconds") > 0
    assert told == {"namespace": "user", "loaded": 30, "skipped": 0, "failed": 0, "resumed": 0}


# cache


def test_delete_matching(url, prefix, sync_bay):
    cache = sync_bay.cache("user", ttl=60)
    cache.set_many({"1:a": 1, "1:b": 2, "2:a": 3})
    done = runner.invoke(app, ["cache", "delete-matching", "user", "1:*", "--url", url, "--prefix", prefix])
    assert (done.exit_code, done.output) == (0, "2 removed\n")
    assert cache.get_many(["1:a", "1:b", "2:a"]) == {"2:a": 3}


def test_clear_wants_to_be_sure(url, prefix, sync_bay):
    cache = sync_bay.cache("user", ttl=60)
    other = sync_bay.cache("users", ttl=60)
    cache.set_many({"a": 1, "b": 2})
    other.set("a", 1)
    words = ["cache", "clear", "user", "--url", url, "--prefix", prefix]
    done = runner.invoke(app, words)
    assert done.exit_code == 2
    assert "--yes" in done.output
    assert cache.get("a") == 1
    done = runner.invoke(app, [*words, "--yes"])
    assert (done.exit_code, done.output) == (0, "2 removed\n")
    assert cache.get("a") is None
    assert other.get("a") == 1
    assert runner.invoke(app, ["cache", "clear", "session", "--yes", "--url", url]).exit_code == 2


def test_without_the_extra_one_line_says_what_to_install():
    program = "import sys; sys.modules['typer'] = None; from forebay.cli.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'forebay[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
