"""A real browser on the built book. Skips, and says why, where there is no Chromium or no built book."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--headless",
    "--no-first-run",
    "--no-sandbox",
]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}
PATIENCE = 180_000  # milliseconds; a machine may have other work, and nothing waits for it on a page that works
# Formulas are typeset and every widget has drawn itself.
SETTLED = """async () => {
    await window.MathJax?.startup?.promise;
    const waiting = () => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')]
        .filter((view) => !view.parentElement.querySelector(".fi svg, .lab svg, .static-widget-problem"));
    for (let i = 0; i < 1200 && waiting().length; i++) await new Promise((done) => setTimeout(done, 50));
    return waiting().length;
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line of log for each."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@dataclass
class Visit:
    """One open page and everything that went wrong on it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text}")

    def on_failure(self, request: Request) -> None:
        """Report a request that failed; one that the browser itself cancels when it leaves a page did not."""
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"request failed: {request.url}")

    def guard(self, route: Route) -> None:
        """Let requests to the book pass; stop and report every other one."""
        if route.request.url.startswith(("http://127.0.0.1:", "file:")):
            route.continue_()
        else:
            self.problems.append(f"request to another host: {route.request.url}")
            route.abort()


@contextmanager
def served(handler: type[Quiet]) -> Iterator[str]:
    """The address of the built book on a server of this machine that answers with ``handler``."""
    if not (HTML / "index.html").is_file():
        pytest.skip("There is no built book to open: run `make book` first.")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built book."""
    with served(Quiet) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium with a profile of its own that is thrown away."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("No Chromium on this machine: install it (on Debian: apt install chromium) to test the pages.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(site: str, browser: Browser) -> Callable[..., Any]:
    """``with visit("book/intro", "dark") as seen:`` opens a page, waits until it has settled, closes it at the end."""

    @contextmanager
    def open_page(
        name: str, look: str = "light", base: str = site, settled: bool = True, **options: Any
    ) -> Iterator[Visit]:
        context = browser.new_context(**(LOOKS[look] | options))
        context.set_default_timeout(PATIENCE)
        seen = Visit(context.new_page())
        context.route("**/*", seen.guard)
        seen.page.on("console", seen.on_console)
        seen.page.on("pageerror", lambda error: seen.problems.append(f"script error: {error}"))
        seen.page.on("requestfailed", seen.on_failure)
        seen.page.on(
            "response",
            lambda answer: answer.status >= 400 and seen.problems.append(f"{answer.status}: {answer.url}"),
        )
        seen.page.goto(f"{base}/{name}.html")
        if settled and options.get("java_script_enabled", True):
            assert seen.page.evaluate(SETTLED) == 0, f"a widget on {name} drew nothing within a minute"
        yield seen
        context.close()

    return open_page
