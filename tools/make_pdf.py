"""Print the built book into one PDF, page by page in the order of the table of contents: ``make pdf``.

Chromium prints what a reader sees: formulas typeset, every widget as the picture it shows when the page opens.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import yaml
from check_book import toc_pages
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfWriter

ROOT = Path(__file__).resolve().parents[1]
HTML, PDF = ROOT / "_build" / "html", ROOT / "_build" / "flatness-and-information.pdf"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SETTLED = """async () => {
    await window.MathJax?.startup?.promise;
    for (const image of document.images) { image.loading = "eager"; await image.decode().catch(() => {}); }
    await new Promise((done) => setTimeout(done, 500));
}"""


def print_page(page: Page, source: Path, target: Path) -> str:
    """Print one HTML page to a file; returns its title."""
    page.goto(source.as_uri(), wait_until="load")
    page.evaluate(SETTLED)
    page.pdf(path=str(target), format="A4", margin={"top": "15mm", "bottom": "15mm", "left": "15mm", "right": "15mm"})
    return page.title().partition(" — ")[0].partition(" &#8212;")[0]


def main() -> int:
    """Print every page of the table of contents and join them; 1 with a sentence where something is missing."""
    names = list(toc_pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))
    missing = [name for name in names if not (HTML / f"{name}.html").is_file()]
    if missing:
        print(f"there is no built page for {', '.join(missing)}: run `make book` first", file=sys.stderr)
        return 1
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if executable is None:
        print("there is no Chromium to print with: install it (on Debian: apt install chromium)", file=sys.stderr)
        return 1
    whole = PdfWriter()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        page = browser.new_page()
        for number, name in enumerate(names):
            part = Path(folder) / f"{number}.pdf"
            title = print_page(page, HTML / f"{name}.html", part)
            whole.append(str(part), outline_item=title)
        browser.close()
        whole.add_metadata({"/Title": "Flatness and Information"})
        whole.write(str(PDF))
    print(f"{PDF.relative_to(ROOT)}: {len(whole.pages)} pages, {PDF.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
