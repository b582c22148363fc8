"""A headless Chromium that can be asked what it shows: for the screenshots of the documentation, and for tests.

It is driven over a pipe in Chromium's own protocol (https://chromedevtools.github.io/devtools-protocol), which needs no
other package.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0
"""Seconds to wait for an answer."""
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, "")}
"""Key codes, and the text that a key types."""


def find_chromium() -> str | None:
    """The path of a browser on this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One window. Use it in a ``with`` statement.

    Attributes:
        complaints: errors and warnings of the console, uncaught exceptions and files that did not load, since `open`.

    Raises:
        OSError: it does not answer, or answers with an error.
    """

    def __init__(self, program: str) -> None:
        self.complaints: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._read, answers = os.pipe()
        orders, self._write = os.pipe()
        # the browser reads orders from its file 3 and answers in its file 4
        line = f'exec "$@" 3<&{orders} 4>&{answers}'
        arguments = [program, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", line, "bash", *arguments], pass_fds=(orders, answers), stderr=subprocess.DEVNULL
        )
        os.close(orders)
        os.close(answers)
        self._rest, self._number, self._session = b"", 0, None
        self._loaded = False
        page = next(t for t in self._ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self._ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask("Emulation.setFocusEmulationEnabled", enabled=True)  # as the window in front
        # every page is a first visit: what a toggle of an earlier one left is forgotten
        forget = "try { localStorage.clear() } catch {}"
        self._ask("Page.addScriptToEvaluateOnNewDocument", source=forget)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._profile.cleanup()

    def open(self, url: str, width: int = 1280, height: int = 900, scheme: Literal["light", "dark"] = "light") -> None:
        """Load a page in a window of that size, on a machine set to light or dark; a narrow one is a phone."""
        self._ask("Page.navigate", url="about:blank")
        phone = width < 600
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", media="screen", features=media)
        self.complaints.clear()
        self._loaded = False
        failure = self._ask("Page.navigate", url=url).get("errorText")
        if failure:
            raise OSError(f"{url}: {failure}")
        self._wait_for_page()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise OSError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = KEYS[key]
        values = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **values)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **values)

    def follow(self) -> None:
        """Press Enter on a link, and wait for the page that it leads to."""
        self._loaded = False
        self.press("Enter")
        self._wait_for_page()

    def screenshot(self, file: Path) -> None:
        """Write what the window shows as a PNG."""
        file.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _wait_for_page(self) -> None:
        while not self._loaded:
            self._note(self._receive())
        self.evaluate("document.fonts.ready.then(() => 0)")

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise OSError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._read, 1 << 16) if ready else b""
            if not data:
                raise OSError(f"chromium {'stopped' if ready else f'did not answer within {PATIENCE:g} s'}")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        kind, found = event.get("method"), event.get("params", {})
        if kind == "Page.loadEventFired":
            self._loaded = True
        elif kind == "Runtime.exceptionThrown":
            details = found["exceptionDetails"]
            self.complaints.append(str(details.get("exception", {}).get("description", details["text"])))
        elif kind == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(value.get("value")) for value in found["args"]))
        elif kind == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{found['entry']['text']} {found['entry'].get('url', '')}")
        elif kind == "Network.loadingFailed" and not found.get("canceled"):
            self.complaints.append(f"{found['type']} did not load: {found['errorText']}")
