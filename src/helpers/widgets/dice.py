"""A distribution over a few faces, drawn by hand, and what it gains and costs against a prior.

The game behind Donsker and Varadhan's principle: move weight to faces with large values V, and pay the divergence from
the prior. ``Dice`` is the one widget of the family whose numbers are computed in the page, by the formulas of
``Dice.terms``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from helpers.widgets.chart import SCRIPT, STATIC, Chart, TextTable, plain, rounded


class Dice(Chart):
    """Bars to be dragged, or moved by sliders: weights of a distribution p on m faces.

    ``prior``: (m,) positive probabilities; ``values``: (m,) V of the faces, in nats. ``weights``: increasing
    positive stops of every bar. The sentence reports the gain E_p V, the price KL(p || prior), their difference,
    and how far it is from the log-partition log E_prior exp V, the most that any p can reach. A last slider
    uncovers the distribution that reaches it, in the picture and in the sentence. ``start``: first index of each
    bar (default: the one nearest to the prior).

    Raises ValueError if the prior is no distribution with positive entries, a shape does not fit, or the weights are
    not positive and increasing.
    """

    _esm = SCRIPT + (STATIC / "dice.js").read_text(encoding="utf-8")

    def __init__(
        self,
        prior: ArrayLike,
        values: ArrayLike,
        *,
        title: str,
        weights: Sequence[float] = tuple(range(1, 61)),
        description: str = "",
        start: Sequence[int] | None = None,
    ) -> None:
        p, v, stops = (np.asarray(each, dtype=float) for each in (prior, values, weights))
        if p.ndim != 1 or not (p > 0).all() or not np.isclose(p.sum(), 1):
            raise ValueError(f"{title}: prior must hold positive probabilities that add up to 1.")
        if v.shape != p.shape or not np.isfinite(v).all():
            raise ValueError(f"{title}: values must be finite, one for each of the {p.size} faces.")
        if (
            stops.ndim != 1
            or stops.size < 2
            or stops[0] <= 0
            or not np.isfinite(stops).all()
            or not (np.diff(stops) > 0).all()
        ):
            raise ValueError(f"{title}: weights must be positive, finite, and increase.")
        tilted = p * np.exp(v - v.max())
        faces = [plain(each) for each in v]
        bars = [{"label": f"V = {face}", "text": [plain(w) for w in stops]} for face in faces]
        chart = {
            "kind": "dice",
            "title": title,
            "description": description
            or "Bars are the weights of a distribution over the faces; the strip above them fills as gain less price "
            "approaches the log-partition.",
            "x": {"label": "value V of the face"},
            "y": {"label": "weight"},
            "series": ["your distribution", "the best, uncovered", "gain less price"],
            "sliders": [*bars, {"label": "uncover the best", "text": ["no", "yes"]}],
            "faces": faces,
            "prior": p.tolist(),  # whole: at the prior itself the price is 0, not a rounding
            "values": [rounded(each, 12) for each in v],
            "weights": [rounded(w, 12) for w in stops],
            "gibbs": [rounded(each, 6) for each in tilted / tilted.sum()],
            "best": rounded(float(v.max() + np.log(tilted.sum())), 12),
        }
        middle_first = stops[np.abs(stops - stops.mean()).argsort(kind="stable")]  # heights of the largest bar
        tried = [np.abs(stops[:, None] - height * p / p.max()).argmin(0) for height in middle_first]
        nearest = min(tried, key=lambda at: np.abs(stops[at] / stops[at].sum() - p).sum().round(12)).tolist()
        super().__init__(chart=chart, position=[*(nearest if start is None else start), 0], log=False)

    @property
    def p(self) -> np.ndarray:
        """The distribution that the bars stand for, shape (m,)."""
        chosen = np.array([self.chart["weights"][i] for i in self.position[:-1]])
        share: np.ndarray = chosen / chosen.sum()
        return share

    @property
    def terms(self) -> tuple[float, float]:
        """Gain E_p V and price KL(p || prior), in nats."""
        p, prior = self.p, np.array(self.chart["prior"])
        return float(p @ self.chart["values"]), float(p @ np.log(p / prior))

    def _table(self) -> TextTable:
        """The faces: value, prior, and the share that the bars give them; then gain, price and the most there is."""
        chart, (gain, price) = self.chart, self.terms
        numbers = zip(chart["faces"], chart["prior"], self.p, strict=True)
        rows = [[face, plain(q), plain(share)] for face, q, share in numbers]
        totals = {"gain": gain, "price": price, "difference": gain - price, "at most": chart["best"]}
        return [chart["x"]["label"], "prior", "yours"], rows + [[name, plain(x), ""] for name, x in totals.items()]
