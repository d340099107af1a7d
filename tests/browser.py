"""A headless Chromium, spoken to in its own protocol: https://chromedevtools.github.io/devtools-protocol/. It ends with its owner."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PROGRAM = "chromium"
_PATIENCE = 30.0


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.said: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(_PATIENCE):
            while True:
                answer = json.loads(await self._socket.recv())
                if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                    self.said.append(json.dumps(answer["params"]))
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return dict(answer["result"])

    async def open(self) -> None:
        """Make the tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def go(self, url: str) -> None:
        """Go to *url* and wait until it is there."""
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def evaluate(self, script: str) -> Any:
        """Return what *script* comes to."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until *script* is true; a page that is just being replaced is asked again."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                with contextlib.suppress(AssertionError):
                    if await self.evaluate(f"Boolean({script})"):
                        return
                await asyncio.sleep(0.02)

    async def fill(self, selector: str, text: str) -> None:
        """Type *text* into a field."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str, then: str) -> None:
        """Click, and wait for the page on which *then* is true."""
        await self.evaluate("window.before = true")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
        await self.until(f"!window.before && document.readyState === 'complete' && ({then})")

    async def text(self) -> str:
        """Return what can be read."""
        return str(await self.evaluate("document.body.innerText"))

    async def cookies(self) -> dict[str, dict[str, Any]]:
        """Return the cookies of this page, by name."""
        return {cookie["name"]: cookie for cookie in (await self.call("Network.getCookies"))["cookies"]}

    async def picture(self, width: int = 760, height: int = 700) -> bytes:
        """Return a picture of the page, as PNG."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


@contextlib.asynccontextmanager
async def browser(directory: Path) -> AsyncIterator[Page]:
    """A browser of its own, without a past, and one tab in it."""
    program = shutil.which(PROGRAM)
    assert program is not None, f"{PROGRAM} is not installed: make test-system does it"
    process = await asyncio.to_thread(_start, program, directory)
    try:
        address = await asyncio.to_thread(_address_of, process)
        async with connect(address, max_size=None) as socket:
            page = Page(socket)
            await page.open()
            yield page
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
        assert process.stderr is not None
        process.stderr.close()


def _start(program: str, directory: Path) -> subprocess.Popen[str]:
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-gpu"]
    confined = ["--no-sandbox", "--disable-dev-shm-usage"]  # it runs as root in containers, and sees this machine's pages alone
    return subprocess.Popen(
        [program, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={directory}", *quiet, *confined],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _address_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        found = re.search(r"DevTools listening on (ws://\S+)", line)
        if found:
            return found[1]
    raise AssertionError(f"the browser did not start: {''.join(lines)}")
