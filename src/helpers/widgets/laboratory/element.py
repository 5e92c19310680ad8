"""The laboratory as an element of a notebook or of the built page."""

import html
from typing import Any

import anywidget
import traitlets

from helpers.widgets.laboratory.scripts import ENGINE_MODULE, script

KEYS = (
    "world", "batch_size", "lr", "momentum", "epochs", "stop_loss", "width", "label_noise", "n", "temperature",
    "toy_noise", "seed",
)  # fmt: skip


SHARED = [ENGINE_MODULE, *map(script, ("server", "drawing", "bars", "settings", "element"))]
OWN = (
    "runs",
    "history",
    "answer",
    "verdict",
    "evidence",
    "sweep",
    "challenges",
    "controls",
    "layout",
    "laboratory",
)  # of the whole laboratory alone


class _Trains(anywidget.AnyWidget):
    """What both elements have: settings that follow the reader, results, and the digits for a page with a kernel."""

    _css = script("laboratory", "css")
    settings = traitlets.Dict().tag(sync=True)
    results = traitlets.Dict().tag(sync=True)
    refused = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **settings: Any) -> None:
        for key in settings:
            if key not in KEYS:
                raise TypeError(f"the laboratory has no setting {key!r}; it has {', '.join(KEYS)}")
        super().__init__(settings=settings)
        self.on_msg(self._answer)

    def _answer(self, _: Any, content: Any, __: Any) -> None:
        """The digits, for a page that is a notebook."""
        from helpers.widgets.laboratory.worlds import packed_digits

        if content == {"wanted": "digits"}:
            self.send({"digits": packed_digits()})

    def __repr__(self) -> str:
        """The class and what was set, without the address that would differ from run to run."""
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings.items())})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and beside it a table for readers without JavaScript."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        words = (
            "Four networks would train here, in your browser, while the bounds of the book answer. That needs "
            "JavaScript; in Python, replay and measure of helpers.widgets.laboratory do the same."
        )
        rows = "".join(
            f'<tr><th scope="row">{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>'
            for key, value in (self.settings or {"settings": "those of replay"}).items()
        )
        return {**data, "text/html": f"<p>{words}</p><table><tbody>{rows}</tbody></table>"}, metadata


class Laboratory(_Trains):
    """Four networks that train in the page while every bound of the book answers.

    Args:
        settings: any of world, batch_size, lr, momentum, epochs, stop_loss, width, label_noise, n, temperature,
            toy_noise, seed, with the meaning and the defaults of ``laboratory.replay``.

    ``settings`` follows the reader and may be set from Python: the page trains again. ``refused`` is a sentence on what
    of them cannot be trained and what is used instead, once a page shows the element; it is empty where all was taken.
    ``results`` is what the last finished run measured, as ``laboratory.measure`` returns it, with its ``settings``;
    ``show`` puts runs of your own into the same picture.

    Raises:
        TypeError: if a setting has another name.
    """

    _esm = "\n".join([*SHARED, *map(script, OWN)])

    def show(self, run: Any, data: Any, **options: Any) -> None:
        """Draw every bound of k runs that Python trained, of any architecture.

        Args:
            run: a ``training.Run``, as ``training.train_ensemble`` returns it.
            data: what they were trained and are judged on, ``laboratory.Roles``.
            options: of ``laboratory.measure``.

        Raises:
            ValueError: as ``laboratory.measure``.
        """
        from helpers.widgets.laboratory.replay import measure

        self.results = measure(run, data, **options) | {"source": "python"}


class Train(_Trains):
    """The laboratory with one button, for a page that has room for no more: four bars and the gap.

    Args:
        settings: as for ``Laboratory``; each press of the button trains with the next seed.
    """

    _esm = "\n".join([*SHARED, script("train")])
