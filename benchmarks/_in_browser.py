"""JavaScript computed in a browser that is installed: a page asks this process for work and sends back results.

Needs nothing but the browser itself, so that Firefox is driven as Chromium is.
"""

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome"), "firefox": ("firefox", "firefox-esr")}
PAGE = b"""<!doctype html><title>work</title><script>
(async () => {
  for (;;) {
    const { source, argument } = await (await fetch("/work")).json();
    let answer;
    try {
      answer = { value: new Function("argument", source)(argument) };
    } catch (error) {
      answer = { error: String(error.stack ?? error) };
    }
    const text = JSON.stringify(answer, (_, v) => (ArrayBuffer.isView(v) ? [...v]
      : typeof v === "number" && !Number.isFinite(v) ? String(v) : v));
    await fetch("/answer", { method: "POST", body: text });
  }
})();
</script>"""


class BrowserError(RuntimeError):
    """The script failed, or the browser did not answer."""


class InBrowser:
    """A page that evaluates function bodies: ``calculate("return argument + 1", 1)`` is 2."""

    def __init__(self, seconds: float = 240.0) -> None:
        self.seconds = seconds
        self.pid = 0
        self.work: queue.Queue[dict[str, Any]] = queue.Queue()
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def calculate(self, source: str, argument: Any = None) -> Any:
        """What the body returns; arrays come as lists, numbers that are not finite as text.

        Raises:
            BrowserError: if the script throws, or there is no answer in time.
        """
        self.work.put({"source": source, "argument": argument})
        try:
            answer = self.answers.get(timeout=self.seconds)
        except queue.Empty:
            raise BrowserError(f"no answer from the browser within {self.seconds:.0f} s") from None
        if "error" in answer:
            raise BrowserError(answer["error"])
        return answer["value"]


def processor_seconds(pid: int) -> float:
    """Seconds of processor time that a process and all that it started have used so far (Linux)."""
    parents, used = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            fields = entry.read_text().rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
            used[int(entry.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    family, grown = {pid}, True
    while grown:
        grown = False
        for child, parent in parents.items():
            if parent in family and child not in family:
                family.add(child)
                grown = True
    return sum(used.get(member, 0.0) for member in family)


def executable(browser: str) -> str | None:
    """The installed program, or None."""
    return next(filter(None, map(shutil.which, NAMES[browser])), None)


@contextmanager
def opened(browser: str) -> Iterator[InBrowser]:
    """A headless browser with a profile that is thrown away."""
    page, program = InBrowser(), executable(browser)
    assert program is not None
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(page))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        quiet = {
            "chromium": [
                "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
            ],
            "firefox": ["--headless", "--no-remote", "--profile", profile],
        }[browser]  # fmt: skip
        (Path(profile) / "user.js").write_text('user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);\n')
        process = subprocess.Popen([program, *quiet, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        page.pid = process.pid
        try:
            yield page
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            server.shutdown()
            server.server_close()


def _handler(page: InBrowser) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/work":
                self._send(json.dumps(page.work.get()).encode(), "application/json")
            elif self.path == "/":
                self._send(PAGE, "text/html")
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            page.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._send(b"", "text/plain")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    return Handler
