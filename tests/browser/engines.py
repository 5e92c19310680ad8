"""Firefox and WebKitGTK on the built book, through the protocols that they speak themselves: nothing to download.

Both are one ``Page`` to a test. Firefox answers to WebDriver BiDi over a websocket; WebKitGTK to the older WebDriver,
through the driver that comes with it, on a screen that nobody sees.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError

from tornado.websocket import websocket_connect

from tests.browser.conftest import Quiet

SECONDS = 120.0  # generous: nothing waits for it on a page that works
SIZE = {"width": 1280, "height": 900}
KEYS = {"Enter": "\ue006", "Escape": "\ue00c", "End": "\ue010", "Home": "\ue011", "ArrowRight": "\ue014"}
FIREFOX = ("firefox-esr", "firefox")
# All but this machine is behind a proxy that is not there.
PREFERENCES = {
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
}
WATCH = b"""
window.problems = [];
for (const kind of ["error", "warn"]) {
  const say = console[kind];
  console[kind] = (...words) => { problems.push(`console ${kind}: ${words.join(" ")}`); say.apply(console, words); };
}
addEventListener("error", (event) => problems.push(event.message
  ? `script error: ${event.message} (${event.filename}:${event.lineno})`
  : `not loaded: ${event.target.src ?? event.target.href}`), true);
addEventListener("unhandledrejection", (event) => problems.push(`promise refused: ${event.reason}`));
addEventListener("securitypolicyviolation", (event) => problems.push(`forbidden: ${event.blockedURI || event.sample}`));
"""
FOREIGN = """performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => /^https?:/.test(name) && !name.startsWith(location.origin))"""

CENTRE = """(selector) => {
    const node = document.querySelector(selector);
    node.scrollIntoView({ block: "center", behavior: "instant" });
    const box = node.getClientRects()[0];
    return [box.left + box.width / 2, box.top + box.height / 2].map(Math.round);
}"""


class BrowserError(RuntimeError):
    """The browser did not start, did not answer, or a script in it threw."""


class Watched(Quiet):
    """Serves the book; every page first loads a script that keeps what goes wrong on it."""

    def send_head(self) -> BytesIO | Any:
        path = Path(self.translate_path(self.path))
        if self.path == "/watch.js":
            return self._body(WATCH, "text/javascript")
        if path.suffix == ".html" and path.is_file():
            page = path.read_bytes()
            return self._body(page.replace(b"<head>", b'<head><script src="/watch.js"></script>', 1), "text/html")
        return super().send_head()

    def _body(self, body: bytes, kind: str) -> BytesIO:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)


class Page(ABC):
    """One window of a browser, without regard to which."""

    @abstractmethod
    def go(self, address: str) -> None:
        """Open an address and wait until it has loaded."""

    @abstractmethod
    def _text(self, body: str) -> str:
        """What the body of an asynchronous function returns in the page, a text."""

    @abstractmethod
    def _act(self, source: dict[str, Any]) -> None:
        """One device's actions, in the words that both protocols share."""

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise.

        Raises:
            BrowserError: if it throws.
        """
        return json.loads(self._text(f"return JSON.stringify((await ({expression})) ?? null);"))

    def until(self, expression: str) -> Any:
        """The value of an expression as soon as it is true; an error may be that of a page that is being left.

        Raises:
            AssertionError: if it is not true within ``SECONDS``.
        """
        end, value = time.monotonic() + SECONDS, None
        while time.monotonic() < end:
            try:
                if value := self.evaluate(expression):
                    return value
            except BrowserError as error:
                value = error
            time.sleep(0.1)
        raise AssertionError(f"not true within {SECONDS:.0f} s, but {value!r}: {expression}")

    def press(self, *keys: str) -> None:
        """Keys one after the other: names of ``KEYS``, or characters."""
        values = [KEYS.get(key, key) for key in keys]
        strokes = [{"type": kind, "value": value} for value in values for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keyboard", "actions": strokes})

    def point(self, selector: str) -> None:
        """Move the mouse onto an element."""
        x, y = self.evaluate(f"({CENTRE})({json.dumps(selector)})")
        move = {"type": "pointerMove", "x": x, "y": y, "duration": 0}
        self._act({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]})

    def problems(self) -> list[str]:
        """What went wrong on a page of a ``Watched`` server, and requests to other hosts."""
        return [*self.evaluate("window.problems"), *self.evaluate(FOREIGN)]


class Firefox(Page):
    """WebDriver BiDi: commands and answers as JSON over one websocket."""

    def __init__(self, address: str) -> None:
        self.count = 0
        self.loop = asyncio.new_event_loop()  # in a thread of its own: the main thread may have one that runs
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.socket = self._wait(self._connect(address))
        self.send("session.new", {"capabilities": {}})
        # A tab of its own has the focus; in the first one that stays in the address line.
        self.context = self.send("browsingContext.create", {"type": "tab"})["context"]
        self.send("browsingContext.setViewport", {"context": self.context, "viewport": SIZE})

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    async def _connect(self, address: str) -> Any:
        return await websocket_connect(address)

    async def _exchange(self, command: dict[str, Any]) -> dict[str, Any]:
        await self.socket.write_message(json.dumps(command))
        while (text := await self.socket.read_message()) is not None:
            answer = json.loads(text)
            if answer.get("id") == command["id"]:
                return dict(answer)
        raise BrowserError("Firefox closed the connection.")

    def send(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The result of a command.

        Raises:
            BrowserError: if the browser answers with an error.
        """
        self.count += 1
        answer = self._wait(self._exchange({"id": self.count, "method": method, "params": parameters}))
        if "result" not in answer:
            raise BrowserError(f"{method}: {answer.get('message')}")
        return dict(answer["result"])

    def go(self, address: str) -> None:
        self.send("browsingContext.navigate", {"context": self.context, "url": address, "wait": "complete"})

    def _text(self, body: str) -> str:
        asked = {
            "expression": f"(async () => {{ {body} }})()",
            "awaitPromise": True,
            "target": {"context": self.context},
        }
        answer = self.send("script.evaluate", asked)
        if answer["type"] == "exception":
            raise BrowserError(answer["exceptionDetails"]["text"])
        return str(answer["result"]["value"])

    def _act(self, source: dict[str, Any]) -> None:
        self.send("input.performActions", {"context": self.context, "actions": [source]})

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)


class WebKit(Page):
    """WebDriver: a command is a request to the driver, which passes it on to the browser."""

    def __init__(self, driver: str) -> None:
        self.driver = self.session = driver
        # Requests to this machine never take a proxy.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        nowhere = {
            "proxyType": "manual",
            "httpProxy": "127.0.0.1:9",
            "sslProxy": "127.0.0.1:9",
            "noProxy": ["127.0.0.1"],
        }
        made = self.send("POST", "/session", {"capabilities": {"alwaysMatch": {"proxy": nowhere}}})
        self.session = f"{driver}/session/{made['sessionId']}"
        self.send("POST", "/timeouts", {"script": 1000 * SECONDS, "pageLoad": 1000 * SECONDS})
        self.send("POST", "/window/rect", SIZE)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The value that the driver answers with.

        Raises:
            BrowserError: if it answers with an error.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.session + path, data, method=method)
        try:
            with self.opener.open(request, timeout=SECONDS) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise BrowserError(f"{path}: {json.load(error)['value']['message']}") from None

    def go(self, address: str) -> None:
        self.send("POST", "/url", {"url": address})

    def _text(self, body: str) -> str:
        return str(self.send("POST", "/execute/sync", {"script": f"return (async () => {{ {body} }})();", "args": []}))

    def _act(self, source: dict[str, Any]) -> None:
        self.send("POST", "/actions", {"actions": [source]})

    def close(self) -> None:
        self.send("DELETE", "")


@contextmanager
def started(
    *command: str, home: str, output: IO[bytes] | int = subprocess.DEVNULL, environment: dict[str, str] | None = None
) -> Iterator[int]:
    """A program in a group of processes of its own, which ends with the block. The group's id."""
    process = subprocess.Popen(
        command,
        env=os.environ | {"HOME": home} | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
                break


def awaited(ask: Callable[[], Any], what: str) -> Any:
    """The first answer of ``ask`` that is neither an error nor empty.

    Raises:
        BrowserError: if there is none within ``SECONDS``.
    """
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with suppress(OSError, ValueError):
            if answer := ask():
                return answer
        time.sleep(0.05)
    raise BrowserError(f"{what} did not start within {SECONDS:.0f} s.")


@contextmanager
def firefox() -> Iterator[Page]:
    """Firefox without a window, with a profile that is thrown away."""
    program = next(filter(None, map(shutil.which, FIREFOX)))
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
        (Path(home) / "user.js").write_text("".join(lines))
        where = Path(home) / "WebDriverBiDiServer.json"  # written once it listens
        command = (program, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", home)
        with started(*command, home=home):
            server = awaited(lambda: json.loads(where.read_text()), "Firefox")
            page = Firefox(f"ws://{server['ws_host']}:{server['ws_port']}/session")
            try:
                yield page
            finally:
                page.close()


@contextmanager
def webkit() -> Iterator[Page]:
    """WebKitGTK's small browser on a screen in memory."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        said = Path(home) / "screen"
        screen = ("Xvfb", "-displayfd", "1", "-screen", "0", "1400x1000x24", "-nolisten", "tcp")
        with said.open("wb") as output, started(*screen, home=home, output=output):
            number = awaited(lambda: said.read_text().strip(), "The screen in memory")
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            address = f"http://127.0.0.1:{port}"
            quiet = {"DISPLAY": f":{number}", "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1", "LIBGL_ALWAYS_SOFTWARE": "1"}
            with started("WebKitWebDriver", f"--port={port}", home=home, environment=quiet):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                awaited(lambda: opener.open(f"{address}/status", timeout=5).status, "WebKitWebDriver")
                page = WebKit(address)
                try:
                    yield page
                finally:
                    with suppress(BrowserError, URLError):
                        page.close()


def missing(engine: str) -> str:
    """What has to be installed before an engine can be opened, in words; empty if nothing."""
    if engine == "Firefox":
        found = any(map(shutil.which, FIREFOX))
        return "" if found else "No Firefox on this machine: install it (on Debian: apt install firefox-esr)."
    if shutil.which("WebKitWebDriver") and shutil.which("Xvfb"):
        return ""
    return "No WebKitGTK that a test can drive: install it (on Debian: apt install webkit2gtk-driver xvfb)."


ENGINES: dict[str, Callable[[], Any]] = {"Firefox": firefox, "WebKitGTK": webkit}
