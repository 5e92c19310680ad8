"""Notebooks in JupyterLab with a kernel. Skips, and says why, where JupyterLab is not installed."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.engines import awaited, started

BOOK = Path(__file__).resolve().parents[2] / "book"
NOTEBOOKS = ("intro", "toolbox", "14-playground")
SECONDS = 180  # a chapter on a busy machine
LONG = """import torch
from helpers import data, models, training

torch.set_num_threads(1)
samples = data.disjoint(data.load("digits"), 2, 50, seed=0)

def train(epochs):
    return training.train_ensemble(
        lambda: models.mlp(64, 8, 10), samples, epochs=epochs, batch_size=10, lr=0.1, seed=0
    )

print("training", flush=True)
train(10**7)"""
DRAWN = """from helpers import widgets

texts = {"x_label": "x", "y_label": "y", "title": "Title", "description": "What it shows"}
display(
    widgets.Curves([1.0, 2.0], {"a": [[1.0, 2.0], [2.0, 1.0]]}, {"t": [0.0, 1.0]}, **texts),
    widgets.Plane(along={"step": [0.0, 1.0]}, paths={"path": [[0.0, 0.0], [1.0, 1.0]]}, play=True, **texts),
    widgets.Dice([0.5, 0.5], [0.0, 1.0], title="Dice"),
    widgets.Laboratory(),
    widgets.Train(),
)"""
AFTER = "print(len(train(2).losses), 'epochs')"
# The notebook in front, once its kernel has answered.
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.isReady && panel.sessionContext.session?.kernel?.status === "idle";
}"""
OUTPUTS = """() => jupyterapp.shell.currentWidget.context.model.toJSON().cells
    .filter((cell) => cell.cell_type === "code")
    .map((cell) => [cell.execution_count, cell.outputs.map((output) => [output.ename, output.text].flat().join(""))])"""
ERRORS = """() => jupyterapp.shell.currentWidget.context.model.toJSON().cells
    .flatMap((cell) => cell.outputs ?? [])
    .filter((output) => output.output_type === "error")
    .map((output) => [output.ename, ...output.traceback].join("\\n"))"""
SHOW = """(words) => {
    const notebook = jupyterapp.shell.currentWidget.content;
    const cells = notebook.model.toJSON().cells.map((cell) => [cell.source].flat().join(""));
    return notebook.scrollToItem(cells.findIndex((source) => source.includes(words)), "center");
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Notebooks that JupyterLab may save: three chapters, a training that would last for days, every widget."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name in NOTEBOOKS:
        shutil.copy(BOOK / f"{name}.ipynb", folder)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, sources in {"long": (LONG, AFTER), "drawn": (DRAWN,)}.items():
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """JupyterLab on this machine with settings of its own: its address and its token."""
    if importlib.util.find_spec("jupyterlab") is None:
        pytest.skip("No JupyterLab in this environment: install the extra `lab` to test notebooks in it.")
    home = tmp_path_factory.mktemp("home")
    (home / "labconfig").mkdir()
    silent = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}  # they ask another host
    (home / "labconfig" / "page_config.json").write_text(json.dumps(silent))
    places = {f"JUPYTER_{kind}_DIR": str(home) for kind in ("CONFIG", "DATA", "RUNTIME")}
    command = (
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
        "--ip=127.0.0.1", "--port=0", f"--ServerApp.root_dir={folder}",
    )  # fmt: skip
    with started(*command, home=str(home), environment=places):
        yield awaited(lambda: [json.loads(path.read_text()) for path in home.glob("jpserver-*.json")], "JupyterLab")[0]


@contextmanager
def opened(browser: Browser, lab: dict[str, Any], name: str) -> Iterator[Page]:
    """A notebook in a workspace of its own, its kernel idle."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.route(
        "**/*", lambda route: route.continue_() if route.request.url.startswith(lab["url"]) else route.abort()
    )
    page = context.new_page()
    page.set_default_timeout(1000 * SECONDS)
    page.goto(f"{lab['url']}lab/workspaces/{name}/tree/{name}.ipynb?token={lab['token']}")
    page.wait_for_function(READY)
    yield page
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    context.close()


def do(page: Page, command: str) -> None:
    """One of JupyterLab's commands, awaited."""
    page.evaluate(
        """([command, seconds]) => Promise.race([
            jupyterapp.commands.execute(command).then(() => null),
            new Promise((_, fail) => setTimeout(fail, 1000 * seconds, new Error(`${command} did not end`))),
        ])""",
        [command, SECONDS],
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_to_its_end(browser: Browser, lab: dict[str, Any], name: str) -> None:
    with opened(browser, lab, name) as page:
        do(page, "notebook:run-all-cells")
        page.wait_for_function(READY)
        assert page.evaluate(ERRORS) == []
        counts = [count for count, _ in page.evaluate(OUTPUTS)]
        assert counts == list(range(1, len(counts) + 1))
        if name == "14-playground":
            page.evaluate(SHOW, "BoundExplorer(")
            widget = page.locator(".fi").first
            slider, picture = widget.locator("input[type=range]").last, widget.locator("svg[role=img]")
            drawn, words = picture.inner_html(), slider.get_attribute("aria-valuetext")
            slider.focus()
            page.keyboard.press("Home" if slider.input_value() != "0" else "End")
            page.wait_for_function("([svg, drawn]) => svg.innerHTML !== drawn", arg=[picture.element_handle(), drawn])
            assert slider.get_attribute("aria-valuetext") != words
            page.evaluate(SHOW, "widgets.Laboratory()")
            page.locator(".lab-status", has_text="Gap 0.").wait_for()


def test_a_training_that_is_interrupted_leaves_a_kernel_that_trains(browser: Browser, lab: dict[str, Any]) -> None:
    with opened(browser, lab, "long") as page:
        page.evaluate("() => { jupyterapp.commands.execute('notebook:run-cell-and-select-next'); }")
        page.locator(".jp-OutputArea-output", has_text="training").wait_for()
        assert page.locator(".jp-InputArea-prompt").first.inner_text() == "[*]:"  # it still computes
        do(page, "notebook:interrupt-kernel")
        page.wait_for_function(f"() => ({ERRORS})().length")
        (error,) = page.evaluate(ERRORS)
        assert error.startswith("KeyboardInterrupt")
        assert "train_ensemble" in error
        for _ in range(20):  # for a moment after an error the kernel drops what it is asked
            if not page.evaluate(OUTPUTS)[1][1]:
                do(page, "notebook:run-cell")
        assert page.evaluate(OUTPUTS)[1][1] == ["2 epochs\n"]


def keys_of_widgets(page: Page) -> int:
    """How many things in widgets take keys, after some keys that mean something to JupyterLab."""
    page.evaluate("() => document.querySelectorAll('.jp-OutputArea details').forEach((fold) => { fold.open = true; })")
    places = page.locator(".jp-OutputArea-output").locator("input, button, select, summary, a[href], [tabindex]")
    count = places.count()
    for place in places.all():
        if place.is_visible() and place.is_enabled():
            place.focus()
            for key in "ddb":  # in command mode: delete the cell, add one below
                page.keyboard.press(key)
    return count


def test_no_key_of_a_widget_reaches_the_notebook_and_a_saved_one_draws_where_its_state_is_kept(
    browser: Browser, lab: dict[str, Any]
) -> None:
    """As "Set-up" says of the setting; without it a widget that has not run says that its model is not found."""
    with opened(browser, lab, "drawn") as page:
        do(page, "@jupyter-widgets/jupyterlab-manager:saveWidgetState")
        do(page, "notebook:run-all-cells")
        page.locator(".lab-status", has_text="Gap 0.").wait_for()
        assert page.evaluate(ERRORS) == []
        assert keys_of_widgets(page) > 50
        assert page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length") == 1
        do(page, "docmanager:save")
    with opened(browser, lab, "drawn") as page:
        page.locator(".fi svg[role=img]").nth(2).wait_for(state="attached")
        page.locator(".lab svg").first.wait_for(state="attached")
        assert page.evaluate(OUTPUTS)[0][0] == 1  # of the earlier run
        assert "model not found" not in page.locator(".jp-OutputArea").first.inner_text()
