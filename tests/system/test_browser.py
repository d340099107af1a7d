"""The demo's page in a real browser: a login, the devices, a logout elsewhere, and what scripts and other sites cannot do."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.browser import browser

pytestmark = pytest.mark.system

ADA = {"email": "ada.lovelace@example.org", "password": "forebay-demo"}


def keep_picture(picture):
    """For the docs: FOREBAY_PICTURE=docs/account.png."""
    assert picture.startswith(b"\x89PNG")
    if "FOREBAY_PICTURE" in os.environ:
        Path(os.environ["FOREBAY_PICTURE"]).write_bytes(picture)


@pytest.fixture
def demo(tmp_path):
    """The address of a demo of its own, as `make run` starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "forebay.demo"],
        env={**os.environ, "PORT": "0", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    address = None
    for line in process.stdout:
        found = re.search(r"API\s+(http://\S+)", line)
        address = found[1] if found else address
        if "Ctrl-C" in line:
            break
    yield address
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture
async def page(tmp_path):
    async with browser(tmp_path / "browser") as page:
        yield page


async def test_a_login_the_devices_and_a_logout(demo, page, tmp_path):
    await page.go(f"{demo}/account")
    assert await page.evaluate("document.title") == "Log in - Forebay's users API"
    visitor = (await page.cookies())["session_id"]
    await page.fill("input[name=email]", ADA["email"])
    await page.fill("input[name=password]", "wrong")
    await page.click("form.login button", "document.querySelector('[role=status]')")
    assert "Wrong address or password." in await page.text()

    await page.fill("input[name=email]", ADA["email"])
    await page.fill("input[name=password]", ADA["password"])
    await page.click("form.login button", "document.querySelector('.devices')")
    assert "Ada Lovelace" in await page.text()
    cookie = (await page.cookies())["session_id"]
    assert cookie["value"] != visitor["value"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert await page.evaluate("document.cookie") == "", "no script can read it"

    async with httpx.AsyncClient(base_url=demo, headers={"user-agent": "Forebay for Android 3.1"}) as phone:
        assert (await phone.post("/login", json=ADA)).status_code == 200
        await page.go(f"{demo}/account")
        assert "Forebay for Android 3.1" in await page.text()
        keep_picture(await page.picture())
        await page.click("form[action='/account/logout-everywhere'] button", "document.querySelectorAll('.devices li').length === 1")
        assert (await phone.get("/me")).status_code == 401

    await page.click("form[action='/account/logout'] button", "document.querySelector('form.login')")
    left = (await page.cookies())["session_id"]
    async with httpx.AsyncClient(base_url=demo, cookies={"session_id": cookie["value"]}) as thief:
        assert (await thief.get("/me")).status_code == 401
    assert left["value"] not in (cookie["value"], visitor["value"])
    assert page.said == [], "no error in the console"


async def test_another_sites_form_changes_nothing(demo, page):
    await page.go(f"{demo}/account")
    await page.fill("input[name=email]", ADA["email"])
    await page.fill("input[name=password]", ADA["password"])
    await page.click("form.login button", "document.querySelector('.devices')")
    elsewhere = demo.replace("127.0.0.1", "localhost")
    form = f'<form method="post" action="{demo}/account/logout-everywhere"><input name="csrf" value="x"><button>win</button></form>'
    await page.go(f"{elsewhere}/users/1")
    await page.evaluate(f"document.body.innerHTML = {form!r}; document.querySelector('button').click()")
    await page.until("document.body.innerText.includes('asked by another site')")
    await page.go(f"{demo}/account")
    assert "Ada Lovelace" in await page.text()
