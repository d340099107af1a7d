"""Every Python fence of README and docs runs, in a process of its own, fence after fence as a reader would; links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page):
    return str(page.relative_to(ROOT))


def fences(page, language):
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


@pytest.mark.parametrize("page", [page for page in PAGES if fences(page, "python")], ids=name)
def test_the_python_on_a_page_runs(page, tmp_path):
    program = tmp_path / "page.py"
    program.write_text("\n".join(fences(page, "python")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fence_says_what_it_is(page):
    assert {kind for kind, _ in FENCE.findall(page.read_text())} <= {"python", "console", "text"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if anchor:
            headings = [
                re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in linked.read_text().splitlines()
                if line.startswith("#")
            ]
            assert anchor in headings, target


def test_the_first_example_stands_early():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines.index("```python") <= 16


def test_every_setting_is_documented():
    from forebay.readers import TUNING

    page = (ROOT / "docs" / "settings.md").read_text()
    for variable in [
        *(variable for variable, _ in TUNING.values()),
        *TUNING,
        "REDIS_TLS",
        "REDIS_URL",
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_USERNAME",
        "REDIS_PASSWORD",
        "REDIS_DB",
    ]:
        assert f"`{variable}`" in page


def test_every_cache_operation_is_documented():
    from forebay import Cache

    page = (ROOT / "docs" / "cache.md").read_text()
    for operation in [name for name in dir(Cache) if not name.startswith("_") and name != "namespace"]:
        assert re.search(rf"\b{operation}\(", page) or f"`{operation}" in page, operation


def test_every_session_operation_and_option_is_documented():
    from forebay import SessionOptions, Sessions

    page = (ROOT / "docs" / "sessions.md").read_text()
    for name in [*(name for name in dir(Sessions) if not name.startswith("_")), *SessionOptions.__annotations__]:
        assert f"`{name}" in page or f".{name}(" in page, name


def test_every_token_operation_and_option_is_documented_with_an_example():
    from forebay import TokenOptions, Tokens

    page = ROOT / "docs" / "tokens.md"
    examples = "\n".join(fences(page, "python"))
    for name in [name for name in dir(Tokens) if not name.startswith("_")]:
        assert f"`{name}(" in page.read_text(), name
    for option in TokenOptions.__annotations__:
        assert f"`{option}`" in page.read_text(), option
        assert f"{option}=" in examples or option == "algorithm", f"{option} has no example that runs"


def test_every_limiter_operation_and_option_is_documented_with_an_example():
    from forebay import Limiter, LimitOptions

    page = ROOT / "docs" / "limits.md"
    examples = "\n".join(fences(page, "python"))
    for name in [name for name in dir(Limiter) if not name.startswith("_") and name != "name"]:
        assert f"`{name}(" in page.read_text(), name
    without = {"algorithm", "local_share", "remember", "lease_for"}  # shown in tables and sentences
    for option in LimitOptions.__annotations__:
        assert re.search(rf"`{option}[`=]", page.read_text()), option
        assert f"{option}=" in examples or option in without, f"{option} has no example that runs"


def test_every_cache_option_is_documented_with_an_example():
    from forebay import CacheOptions

    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    examples = "\n".join("\n".join(fences(page, "python")) for page in PAGES)
    for option in CacheOptions.__annotations__:
        assert re.search(rf"`{option}[`=]", pages), option
        assert f"{option}=" in examples, f"{option} has no example that runs"
