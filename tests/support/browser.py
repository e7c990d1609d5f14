"""One headless Chromium, which tests lead by its protocol for debuggers.

The messages go through a pipe, so no port is opened and no package is needed. All pages of a test
are opened in one process, as its start takes longer than all that a test does with a page.
"""

import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import ending_with_this_process

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)"
)
_SECONDS = 300.0  # for one answer: the machine may be busy with other tests
_ON_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
    " os.execv(sys.argv[3], sys.argv[3:])"
)
_AXE = """
axe.run({resultTypes: ["violations"], preload: false}).then((found) => JSON.stringify(found.violations.map(
  (one) => [one.impact, one.id, one.nodes.map((node) => node.html).slice(0, 3)])))
"""


_THIN = """
(() => {
  const seen = new Map();
  for (const one of [...document.querySelectorAll(%s)].reverse()) {
    const shape = one.outerHTML.replace(/>[^<]+</g, "><").replace(/[0-9]+/g, "0");
    const others = seen.get(one.parentElement) ?? new Set();
    if (others.has(shape)) one.remove();
    seen.set(one.parentElement, others.add(shape));
  }
})()
"""


class Page:
    """A page that is open in the browser.

    Attributes:
        said: what it has written to the console, and the errors that nobody has caught.
        requested: the addresses that it has asked for.
        session: the id by which the protocol knows it.
    """

    def __init__(self, browser: "Browser", session: str) -> None:
        self.said: list[str] = []
        self.requested: list[str] = []
        self._browser = browser
        self.session = session

    def send(self, method: str, **params: Any) -> Any:
        """Send a command of the protocol to the page, and return its result."""
        return self._browser.send(method, self.session, **params)

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, that of a promise when it is there."""
        found = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, and let it go."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Escape": 27}.get(key, 0)
        down = {"text": text} if text else {}
        about = {"key": key, "windowsVirtualKeyCode": code}
        self.send(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **about, **down
        )
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def look(self, width: int, *, dark: bool = False) -> None:
        """Give the page another width, or other colours."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address, and wait until all is loaded."""
        self.said.clear()
        self.requested.clear()
        self.send("Page.navigate", url=address)
        self._browser.wait_for("Page.loadEventFired", self.session)

    def violations(self) -> list[list[Any]]:
        """Return what axe-core finds that is serious: impact, rule, and the elements."""
        axe = find_spec("axe_core_python")
        assert axe is not None, "axe-core-python is not installed, which the extra dev has"
        (directory,) = axe.submodule_search_locations or ()
        self.value(f"{(Path(directory) / 'axe.min.js').read_text()}; 0")
        found: list[list[Any]] = json.loads(self.value(_AXE))
        return [one for one in found if one[0] in ("serious", "critical")]

    def thin(self, selector: str) -> None:
        """Leave one of those siblings that differ in their texts and numbers only.

        Nothing that axe-core asks has another answer for them, and it takes its time for each.
        """
        self.value(_THIN % json.dumps(selector))

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Note an event of the protocol."""
        if method == "Runtime.consoleAPICalled":
            self.said.append(f"{params['type']}: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.said.append(str(params["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])


class Browser:
    """A running Chromium.

    Args:
        profile: a directory that is made for it.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        inner = os.pipe(), os.pipe()
        ours = inner[0][1], inner[1][0]
        # Above 3 and 4, which they become there.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (inner[0][0], inner[1][1])]
        self._log = profile.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _ON_3_AND_4, *map(str, theirs), CHROMIUM),
                    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                    *("--disable-background-networking", "--disable-component-update"),
                    *("--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
                    *(f"--user-data-dir={profile}", "about:blank"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=theirs,
                preexec_fn=ending_with_this_process(signal.SIGKILL),  # noqa: PLW1509 - one system call
            )
        for end in (inner[0][0], inner[1][1], *theirs):
            os.close(end)
        self._to, self._from = ours
        self._number = 0
        self._read = b""
        self._pages: dict[str, Page] = {}

    def page(self) -> Page:
        """Open an empty page."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        return page

    def send(self, method: str, session: str = "", **params: Any) -> Any:
        """Send a command of the protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        left = json.dumps(message).encode() + b"\0"
        while left:  # as much as the pipe has room for
            left = left[os.write(self._to, left) :]
        while True:
            answer = self._next(method)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def wait_for(self, event: str, session: str) -> None:
        """Wait for an event of a page."""
        while True:
            heard = self._next(event)
            if (heard.get("method"), heard.get("sessionId")) == (event, session):
                return

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _next(self, what: str) -> dict[str, Any]:
        """Return the next message, and hand it to its page if it is an event."""
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._read:
            with selectors.DefaultSelector() as selector:  # select() has no descriptor above 1,023
                selector.register(self._from, selectors.EVENT_READ)
                ready = selector.select(max(0, deadline - time.monotonic()))
            chunk = os.read(self._from, 1 << 20) if ready else b""
            if not chunk:
                pytest.fail(f"Chromium does not answer: {what}\n{self._log.read_text()[-4000:]}")
            self._read += chunk
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        page = self._pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.heard(message["method"], message["params"])
        return message


@contextmanager
def browsing(directory: Path) -> Iterator[Browser]:
    """Run a Chromium for a block.

    Args:
        directory: a directory in which it has its profile.
    """
    browser = Browser(directory / "chromium")
    try:
        yield browser
    finally:
        browser.close()
