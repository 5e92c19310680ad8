"""Every rule turned round: rows of the artefacts with numbers changed by hand, and the verdict that must follow.

A rule that returned one verdict whatever the rows would weigh nothing. ``TURNED`` has an entry for each rule, and
``test_every_admissible_verdict_comes_out_and_no_other`` holds it to the table of admissible verdicts.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from ledger_rows import CLEAN, grid, made_up

from helpers.experiments.machinery.artefact import Artefact, Json, load
from tools.verdicts import RULES, admissible, wang_mao
from tools.verdicts.common import finished

BOOK = Path(__file__).resolve().parents[2] / "book"
LEDGER = {row["id"]: row for row in yaml.safe_load((BOOK / "claims.yml").read_text(encoding="utf-8"))}
SMALL, OTHERWISE, PARTLY = "reproduced at small scale", "otherwise at small scale", "partly"
NO, WRONG, NOT_RUN = "not reproduced", "source wrong", "not run yet"
PRINTED, DETECTED, TEXT = wang_mao.PRINTED, wang_mao.DETECTED, wang_mao.TEXT

Change = Callable[[Json], Json]


def put(**values: object) -> Change:
    """Other values for every row; a function is applied to the row."""
    return lambda row: row | {key: value(row) if callable(value) else value for key, value in values.items()}


def where(holds: Callable[[Json], bool], change: Change) -> Change:
    """A change of the rows of which something holds."""
    return lambda row: change(row) if holds(row) else row


def both(one: Change, other: Change) -> Change:
    return lambda row: other(one(row))


def look(**values: object) -> Change:
    """Other values at every look of a path, where a row has one."""
    return where(
        lambda row: "path" in row,
        lambda row: row | {"path": [put(**values)(at | {"d": row["d"]}) for at in row["path"]]},
    )


def side(name: str, **values: object) -> Change:
    """Other measures from training or from test data; a function is applied to the row."""
    return lambda row: row | {name: put(**{k: (v(row) if callable(v) else v) for k, v in values.items()})(row[name])}


def rule(*names: str) -> Callable[[Json], bool]:
    return lambda row: row["rule"] in names


def method(*names: str) -> Callable[[Json], bool]:
    return lambda row: row["method"] in names


def minimum(row: Json) -> bool:
    """Whether a row is of a run of SGD to a minimum."""
    return row["part"] == "selection"


def noisy(row: Json) -> bool:
    return bool(row["noise"])


def ending(key: str, value: float) -> Change:
    """A curve that ends at a value, spread a little over the seeds."""
    return lambda row: row | {key: [*row[key][:-1], value + 0.001 * row["seed"]]}


def accurate(by: float) -> Change:
    return put(test_accuracy=lambda row: row["test_accuracy"] + by)


def at_looks(**values: object) -> Change:
    """Other values at every look of a walk, where a row has some."""
    return where(
        lambda row: "looks" in row, lambda row: row | {"looks": [put(**values)(at) for at in row["looks"]]}
    )  # fmt: skip


AT = 5  # where lambda is 0.01


def rank(row: Json, side_: str = "from_train") -> float:
    return float(row[side_]["soft_rank"][AT])


def constant(value: Callable[[Json], float]) -> Callable[[Json], list[float]]:
    """The same number at every lambda."""
    return lambda row: [value(row)] * len(row["from_train"]["soft_rank"])


def edge(row: Json) -> float:
    return float(2 / row["lr"])


def networks() -> list[Json]:
    """Rows of two networks under SGD and GMP that differ by next to nothing."""
    return [
        {"model": model, "method": method, "seed": seed, "test_accuracy": 0.4 + 0.001 * (-1) ** (seed + i)}
        for seed in range(4)
        for model in ("vgg16", "preact-resnet18")
        for i, method in enumerate(("SGD", *GMPS))
    ]


def surfaces() -> list[Json]:
    """Rows of networks with shortcuts, which are smoother and better, and without."""
    return [
        {"depth": depth, "skips": skips, "seed": seed, "dents": 0.3 - 0.2 * skips + 0.01 * (seed + skips) ** 2,
         "test_error": 0.6 - 0.2 * skips + 0.01 * (seed + skips) ** 2}
        for seed in range(4) for depth in (8, 32) for skips in (False, True)
    ]  # fmt: skip


def powers() -> list[Json]:
    """A grid of networks that beat a uniform guess, with bounds that follow the gap."""
    return grid(0.3, 0.6)


def shares() -> list[Json]:
    """Bounds near the gap at three held-out shares and two seeds; the errors do not fall."""
    return [
        {"share": share, "seed": seed, "gap": 2.5,
         "omniscient": [CLEAN | {"value": 2.6, "standard_error": 0.1} for _ in range(2)]}
        for seed in (0, 1) for share in (0.1, 0.2, 0.3)
    ]  # fmt: skip


def caps() -> list[Json]:
    """The grid at three caps of the loss."""
    return [row | {"clip": cap} for cap in (4.0, 8.0, 16.0) for row in grid(0.3, 0.6)]


def minima() -> list[Json]:
    """Escapes from eight minima, the faster the sharper."""
    return [
        {"noise": "sgd", "seed": seed, "batch_size": size, "frobenius": 10.0 + seed,
         "measured_growth": 1 + (seed + 1) / size}
        for seed in range(8) for size in (1, 2)
    ]  # fmt: skip


GRID_RULES = ("000-result-tight", "000-result-trends", "000-failure-trend", "000-open-1", "000-open-2")
# rows of experiments still to be run, or to be run again
MADE = {
    "001-table-1": networks, "001-table-2": networks, "002-figure-5": surfaces, "000-check-1": shares,
    "000-check-2-trends": caps, "002-sharper-faster": minima, **dict.fromkeys(GRID_RULES, powers),
}  # fmt: skip
CONFIGS: dict[str, Json] = {"000-check-1": {"shares": [0.1, 0.2, 0.3]}}
GMPS = ("GMP, 3 draws", "GMP, 10 draws")


def sam(row: Json) -> bool:
    return bool(row["radius"])


def last(key: str, value: float) -> Change:
    """A list that ends at a value, spread a little over the seeds."""
    return lambda row: row | {key: [*row[key][:-1], value * (1 + 0.01 * row["seed"])]}


def path(which: int | None = None, **values: object) -> Change:
    """Other values of the points of the path of lambda, of one of them or of all; a function is applied to the row."""

    def change(row: Json) -> Json:
        changed = {key: value(row) if callable(value) else value for key, value in values.items()}
        points = [point | changed if which in (None, i) else point for i, point in enumerate(row["omniscient"])]
        return row | {"omniscient": points}

    return change


def eq_3(best: Callable[[Json], float], ratio: Callable[[Json], float] = lambda row: 0.5) -> Change:
    """Another value of eq. 3 at its best noise, two parts trajectory to one of flatness, and how long that noise is."""
    return lambda row: row | {
        "wang_mao_eq3": row["wang_mao_eq3"] | {
            "value": best(row), "trajectory": best(row) * 2 / 3, "flatness": best(row) / 3, "sigma": 0.1,
            "noise_to_weight": ratio(row),
        }
    }  # fmt: skip


def curve(*values: float) -> Change:
    """A dispersion that falls and rises so, and accuracies that turn at its third epoch."""
    return put(cross_run=list(values), true_test_accuracy=[0.1, 0.5, 0.9, 0.7, 0.6],
               test_accuracy=[0.1, 0.4, 0.6, 0.5, 0.4], train_accuracy=[0.1, 0.4, 0.65, 0.8, 1.0])  # fmt: skip


def part(name: str, change: Change) -> Change:
    return where(lambda row: row["part"] == name, change)


INVERSE_GAP = put(gap=lambda row: 1 / row["gap"])
RANK_IS_GAP = put(gap=lambda row: rank(row) / row["n"])

TURNED: dict[str, list[tuple[Change, str]]] = {
    # --- Peng et al.
    "000-result-tight": [(put(), PARTLY), (path(0, value=lambda r: r["gap"]), SMALL), (path(value=500.0), OTHERWISE)],
    "000-result-trends": [
        (put(), SMALL),
        (path(0, value=lambda r: r["lr"]), PARTLY),
        (path(0, value=lambda r: 1 / r["gap"]), OTHERWISE),
        (put(train_loss=5.0), NOT_RUN),
        (path(converged=False), NOT_RUN),
    ],
    "000-failure-trend": [
        (both(path(0, value=lambda r: 1 / r["gap"]), path(1, value=lambda r: r["gap"])), SMALL),
        (both(path(0, value=lambda r: 1 / r["gap"]), path(1, value=lambda r: r["lr"])), PARTLY),
        (path(value=lambda r: 1 / r["gap"]), OTHERWISE),
        (put(), NOT_RUN),
    ],
    "000-open-1": [
        (put(), SMALL),
        (where(lambda r: r["seed"] == 1, put(self_certified=[CLEAN | {"certificate": 4.0}])), PARTLY),
        (put(self_certified=[CLEAN | {"certificate": 4.0}]), OTHERWISE),
        (put(train_loss=5.0), NOT_RUN),
    ],
    "000-open-2": [(put(), OTHERWISE), (path(0, value=lambda r: 1 / r["gap"]), SMALL)],
    "000-larger-batches": [
        (put(gap=lambda r: 1 / r["batch_size"], gap01=lambda r: 1 / r["batch_size"],
             test_error=lambda r: 1 / r["batch_size"]), SMALL),
        (put(gap=lambda r: r["batch_size"], test_error=lambda r: r["batch_size"]), OTHERWISE),
        (put(gap=lambda r: 1 / r["batch_size"], gap01=lambda r: 1 / r["batch_size"]), PARTLY),
    ],
    "000-check-1": [
        (put(), PARTLY),
        (both(path(1, value=lambda r: r["gap"]), path(standard_error=lambda r: 0.1 / r["share"])), SMALL),
        (path(standard_error=lambda r: 0.1 / r["share"], value=1e6), PARTLY),
        (path(standard_error=lambda r: 0.1 * r["share"], value=1e6), OTHERWISE),
        (path(converged=False), NOT_RUN),
    ],
    "000-check-2-trends": [
        (put(), SMALL),
        (where(lambda r: r["clip"] == 4.0, path(value=lambda r: 1 / r["gap"])), PARTLY),
        (path(value=lambda r: 1 / r["gap"]), OTHERWISE),
        (path(clipped_share=0.2), NOT_RUN),
        (where(lambda r: r["batch_size"] > 20, path(clipped_share=0.2)), NOT_RUN),
    ],
    "000-theorem-4": [(put(simulated_gap=lambda r: r["n"]), NO)],
    # --- Wang and Mao
    "001-main-text-clipping-effect": [
        (where(rule(TEXT), ending("true_test_accuracy", 0.99)), SMALL),
        (where(rule(TEXT), both(ending("true_test_accuracy", 0.99), ending("train_accuracy", 2.0))), PARTLY),
        (where(rule(TEXT), both(ending("true_test_accuracy", 0.1), ending("train_accuracy", 2.0))), OTHERWISE),
    ],
    "001-clipping-slows": [
        (where(rule(DETECTED), put(train_accuracy=[1.0, 1.0])), PARTLY),
        (where(rule(PRINTED, DETECTED), put(train_accuracy=[1.0, 1.0])), OTHERWISE),
        (where(rule(PRINTED, DETECTED), put(train_accuracy=[0.1, 0.1])), OTHERWISE),  # networks that learn nothing
    ],
    "001-clean-double-descent": [
        (put(cross_run=[1, 0.5, 0.2, 2, 0.1]), SMALL),
        (put(cross_run=[1, 1, 1, 2, 2]), OTHERWISE),
    ],
    "001-figure-4": [
        (where(rule(DETECTED), ending("test_accuracy", 0.1)), PARTLY),
        (where(rule(PRINTED, DETECTED), ending("test_accuracy", 0.1)), OTHERWISE),
        (where(rule(PRINTED, DETECTED), both(both(ending("test_accuracy", 0.1), ending("true_test_accuracy", 0.1)),
                                             ending("train_accuracy", 0.1))), OTHERWISE),  # networks that learn nothing
    ],
    "001-figure-4-level": [
        (where(rule(DETECTED), ending("test_accuracy", 0.1)), PARTLY),
        (where(rule(PRINTED, DETECTED), ending("test_accuracy", 0.99)), OTHERWISE),
    ],
    "001-figure-9": [
        (where(rule(DETECTED), ending("true_test_accuracy", 0.99)), SMALL),
        (where(rule(PRINTED, DETECTED), ending("true_test_accuracy", 0.1)), OTHERWISE),
    ],
    "001-clean-clipping": [
        (where(rule("none"), ending("true_test_accuracy", 0.5)), OTHERWISE),
        (where(rule(PRINTED, "none"), ending("true_test_accuracy", 0.5)), PARTLY),
        (lambda r: ending("true_test_accuracy", 0.9 + 0.05 * (-1) ** r["seed"] * (r["rule"] == "none"))(r), NOT_RUN),
    ],
    "001-clean-memorization": [
        (where(noisy, ending("true_test_accuracy", 0.9)), PARTLY),
        (lambda r: ending("true_test_accuracy", 0.9 if noisy(r) else 0.1)(r), OTHERWISE),
    ],
    "001-small-rates-longer": [(put(steps=lambda r: 1 / r["steps"]), OTHERWISE)],
    "001-small-batch-flat": [(put(trace=lambda r: 1 / r["trace"]), OTHERWISE)],
    "001-gmp-flatter": [
        (where(method(*GMPS), accurate(0.5)), SMALL),
        (where(method(*GMPS), put(trace=1e4)), OTHERWISE),
    ],
    "001-table-1": [
        (put(), NOT_RUN),
        (where(method(*GMPS), accurate(0.5)), SMALL),
        (both(where(method(GMPS[0]), accurate(0.5)), where(method(GMPS[1]), accurate(-0.5))), PARTLY),
        (where(method(GMPS[0]), accurate(0.5)), PARTLY),
        (where(method(*GMPS), accurate(-0.5)), OTHERWISE),
    ],
    "001-table-3": [
        (where(method("absolute GMP, 3 draws"), accurate(0.5)), SMALL),
        (where(method("absolute GMP, 3 draws"), accurate(-0.5)), OTHERWISE),
        (put(), NOT_RUN),
    ],
    "001-more-draws": [
        (where(method("GMP, 10 draws"), accurate(-0.5)), SMALL),
        (where(method("GMP, 10 draws"), accurate(0.5)), OTHERWISE),
        (where(method("GMP, 10 draws"), accurate(0.005)), NOT_RUN),
    ],
    "001-learning-rate-temptation": [
        (eq_3(lambda r: 1 / r["lr"]), SMALL),
        (both(side("wang_mao_eq3", B=lambda r: r["wang_mao_eq3"]["A"]), eq_3(lambda r: r["lr"])), OTHERWISE),
    ],
    "001-figure-2": [
        (eq_3(lambda r: r["gap"]), SMALL),
        (eq_3(lambda r: 1 / r["gap"]), OTHERWISE),
        (put(wang_mao_eq3={"value": 1.0}), NOT_RUN),
    ],
    "001-figure-2-noise": [
        (eq_3(lambda r: r["gap"]), SMALL),
        (eq_3(lambda r: r["gap"], lambda r: 10 / r["gap"] ** 2 * 100), PARTLY),
        (eq_3(lambda r: 1 / r["gap"]), OTHERWISE),
        (both(eq_3(lambda r: r["gap"]), put(gap=lambda r: 1.0 + 0.1 * r["seed"])), NOT_RUN),
    ],
    "001-figure-3": [
        (put(cross_run=[1, 0.5, 0.2, 2, 0.1]), SMALL),
        (put(cross_run=[2, 0.5, 0.2, 1.5, 0.1]), SMALL),
        (put(cross_run=[1, 1, 1, 2, 2]), OTHERWISE),
    ],
    "001-great-divide": [
        (curve(1, 0.5, 0.2, 1, 0.1), SMALL),
        (where(lambda r: r["noise"] == 0.2, curve(1, 0.5, 0.2, 1, 0.1)), SMALL),
        (curve(1, 0.9, 0.8, 0.5, 0.1), OTHERWISE),
        (curve(0.2, 0.5, 0.9, 1, 0.1), OTHERWISE),
        (both(curve(1, 0.5, 0.2, 1, 0.1), put(true_test_accuracy=[0.9, 0.9, 0.5, 0.5, 0.3])), OTHERWISE),
    ],
    "001-clean-decay": [
        (put(cross_run=[1.0, 0.9, 0.9, 0.9, 0.001]), PARTLY),
        (put(cross_run=[1.0, 0.5, 0.2, 0.1, 0.1]), OTHERWISE),
    ],
    "001-figure-6": [
        (put(wang_mao_eq3=lambda r: {"A": r["lr"], "B": r["wang_mao_eq3"]["B"]}), PARTLY),
        (put(wang_mao_eq3=lambda r: {"A": r["wang_mao_eq3"]["B"], "B": r["wang_mao_eq3"]["B"]}), OTHERWISE),
    ],
    "001-figure-7": [
        (put(bound=lambda r: [1e3 - i for i in range(len(r["bound"]))]), PARTLY),
        (put(bound=lambda r: [-b for b in r["bound"]]), NO),
    ],
    "002-sam-success": [
        (where(method("SAM"), both(accurate(0.5), put(trace=1.0))), SMALL),
        (where(method("SAM"), both(accurate(-0.5), put(trace=1.0))), PARTLY),
        (where(method("SAM"), both(accurate(-0.5), put(trace=1e4))), OTHERWISE),
    ],
    "004-neyshabur-width": [(put(test_error=lambda r: 1 / r["test_error"]), OTHERWISE)],
    # --- flat networks
    "002-figure-5": [
        (put(), SMALL),
        (put(dents=lambda r: 0.1 + 0.01 * r["seed"]), PARTLY),
        (put(dents=lambda r: 0.1 * r["skips"] + 0.01 * r["seed"], test_error=0.5), OTHERWISE),
    ],
    "002-figure-8": [
        (where(sam, last("error", 99.0)), SMALL),
        (where(sam, last("trace", 999.0)), OTHERWISE),
        (both(where(sam, last("error", 99.0)), where(sam, put(fitted=False))), NOT_RUN),
    ],
    "002-table-4-keskar": [
        (put(subspace=lambda r: [r["batch_size"] * (1 + 0.1 * r["seed"])] * 2), SMALL),
        (put(subspace=lambda r: [(1 + 0.1 * r["seed"]) / r["batch_size"]] * 2), OTHERWISE),
        (put(reached=False), NOT_RUN),
    ],
    "004-keskar-batches": [
        (both(put(whole=lambda r: [r["batch_size"] * (1 + 0.1 * r["seed"])]),
              put(largest_eigenvalue=lambda r: r["batch_size"] * (1 + 0.1 * r["seed"]))), SMALL),
        (put(whole=lambda r: [(1 + 0.1 * r["seed"]) / r["batch_size"]]), OTHERWISE),
    ],
    "002-theorem-2-squares": [(part("norms", put(active=[0.0, 1.0])), NO), (part("norms", put(enough=False)), NOT_RUN)],
    "002-theorem-3-gap": [
        (part("gap", put(error=lambda r: r["trace"] ** 2)), NO),
        (part("gap", put(error=lambda r: 1e-9 * r["n"] * r["trace"] ** 2)), NO),
    ],
    "004-jiang-measures": [
        (put(gradient_variance=lambda r: r["gap01"], worst_ratio=lambda r: r["gap01"], path_norm=lambda r: r["gap01"],
             size=lambda r: -r["gap01"]), SMALL),
        (put(gradient_variance=0.0, worst_ratio=lambda r: -r["gap01"], path_norm=lambda r: -r["gap01"]), OTHERWISE),
    ],
    # --- Wu
    "002-table-2-keskar": [
        (put(test_error=lambda r: r["batch_size"]), SMALL),
        (put(test_error=lambda r: 1 / r["batch_size"]), OTHERWISE),
    ],
    "002-table-1": [
        (put(sharpness=lambda r: [edge(r)] * 20), SMALL),
        (put(sharpness=lambda r: [3 * edge(r)] * 20), OTHERWISE),
    ],
    "002-figure-14": [
        (put(sharpness=lambda r: [edge(r) / 10] + [edge(r)] * 20, rises=0.1), SMALL),
        (put(train_loss=1e9), OTHERWISE),
    ],
    "002-matrix-condition": [(put(gauss_newton_eigenvalue=0.0, non_uniformity=0.0), SMALL)],
    "002-figure-16": [
        (put(gauss_newton_eigenvalue=lambda r: 1 / r["lr"], non_uniformity=lambda r: r["non_uniformity"] / 1e6), SMALL),
        (put(non_uniformity=lambda r: 1 / r["non_uniformity"]), OTHERWISE),
    ],
    "002-figure-17": [
        (put(non_uniformity=lambda r: r.get("gauss_newton_eigenvalue", 1) * (1 + 0.01 * (-1) ** r["seed"])), SMALL),
        *((put(non_uniformity=lambda r, p=p: r.get("gauss_newton_eigenvalue", 1) ** p), PARTLY) for p in (0.3, 2, 3)),
        (where(minimum, put(non_uniformity=lambda r: r["non_uniformity"] * 2.0 ** (r["seed"] - 1))), OTHERWISE),
        (put(non_uniformity=lambda r: 1 / r.get("gauss_newton_eigenvalue", 1)), OTHERWISE),
    ],
    "002-decoupling": [
        (look(alpha=1.0, beta=1.0), SMALL),
        (look(mu=1.0, alpha=0.5, beta=2.0), PARTLY),
        (look(mu=10.0), OTHERWISE),
    ],
    "002-mu0": [(where(minimum, put(mu0=lambda r: r["mu"])), SMALL), (put(mu0=0.0), OTHERWISE)],
    "002-figure-18": [
        (where(lambda r: r.get("width", 256) < 256, put(mu=0.1)), PARTLY),
        (put(mu=0.1), OTHERWISE),
    ],
    "002-theorem-3-stability": [(put(frobenius=1e6), NO)],
    "002-tighter-small-batch": [
        (where(minimum, put(mu=lambda r: r["mu"] * r["batch_size"] ** 4)), PARTLY),
        (where(minimum, put(frobenius=lambda r: r["batch_size"] ** 2 / r["lr"])), OTHERWISE),
    ],
    "002-uniform-solutions": [
        (put(non_uniformity=lambda r: r["lr"] ** -0.5), PARTLY),
        (put(non_uniformity=lambda r: 1 / r["non_uniformity"]), OTHERWISE),
    ],
    "002-large-rate-small-batch": [
        (put(frobenius=lambda r: r["lr"] ** -0.5), PARTLY),
        (put(frobenius=lambda r: 1 / r["frobenius"]), OTHERWISE),
    ],
    "002-noise-magnitude": [
        (look(alpha=1.0, beta=1.0), SMALL),
        (look(alpha=0.1), PARTLY),
        (look(beta=5.0), PARTLY),
        (look(alpha=0.1, beta=5.0), OTHERWISE),
    ],
    "002-alignment-cifar": [(look(mu=1.0), SMALL), (look(mu=lambda at: 1e-3 / at["d"]), OTHERWISE)],
    "002-frobenius-cifar": [
        (look(frobenius=1e-3), SMALL),
        (look(frobenius=lambda at: 1e-9 * at["d"]), OTHERWISE),
        (look(frobenius=1e6), OTHERWISE),
        (look(frobenius=lambda at: 10.0 ** -(int(at["loss"] * 1e12) % 4)), OTHERWISE),  # three decades of scatter
    ],
    "002-figure-11": [
        (where(lambda r: r["seed"] == 0, put(mean=lambda r: r["mean"][:1] * 99)), PARTLY),
        (put(mean=lambda r: r["mean"][:1] * 99), OTHERWISE),
    ],
    "002-figure-19": [(put(linear=lambda r: [1e9] * 20), PARTLY), (put(measured_growth=1.0), OTHERWISE)],
    "002-escape-speed": [
        (where(lambda r: r["seed"] > 0, put(measured_growth=1.0)), PARTLY),
        (put(measured_growth=1.0), OTHERWISE),
    ],
    "002-isotropic-noise": [(put(measured_growth=1.0), PARTLY), (put(measured_growth=3.0), NO)],
    "002-theorem-4-escape": [(put(linear_growth=0.0), NO)],
    "002-sharper-faster": [
        (put(), SMALL),
        (where(lambda r: r["batch_size"] == 2, put(measured_growth=lambda r: 1 / r["frobenius"])), PARTLY),
        (put(measured_growth=lambda r: 1 / r["frobenius"]), OTHERWISE),
        (put(frobenius=lambda r: 10.0 + r["seed"] % 3), NOT_RUN),
    ],
    "002-aligned-faster": [
        (where(lambda r: r["noise"] == "sgd", put(mu=2.0, measured_growth=99.0)), SMALL),
        (where(lambda r: r["noise"] == "isotropic", put(measured_growth=99.0)), OTHERWISE),
        (put(measured_growth=1.0), NOT_RUN),  # nothing leaves
    ],
    "004-escape": [(put(gamma0=1.1), SMALL), (put(measured_growth=1.0), OTHERWISE)],
    "004-jastrzebski": [
        (where(minimum, put(frobenius=lambda r: r["batch_size"] / r["lr"])), SMALL),
        (put(frobenius=lambda r: 1 / r.get("frobenius", 1)), OTHERWISE),
    ],
    # --- Shoham et al.
    "003-result-calibrated": [(RANK_IS_GAP, SMALL), (put(gap=lambda r: 1 / rank(r)), OTHERWISE)],
    "003-result-tic": [
        (put(from_train=lambda r: r["from_test"], gap=lambda r: r["from_test"]["tic"][AT] / r["n"]), SMALL),
        (INVERSE_GAP, OTHERWISE),
    ],
    "003-product": [(put(gap=lambda r: 100 * r["gap"]), PARTLY), (INVERSE_GAP, OTHERWISE)],
    "003-figure-1": [
        (side("from_test", tic=lambda r: [100 * x for x in r["from_test"]["tic"]]), PARTLY),
        (INVERSE_GAP, OTHERWISE),
    ],
    "003-figure-2": [(RANK_IS_GAP, SMALL), (put(gap=lambda r: r["from_train"]["trace_ratio"]), OTHERWISE)],
    "003-figure-3": [
        (put(gap=lambda r: 0.5 * rank(r) / r["n"]), SMALL),
        (side("from_train", kfac=constant(lambda r: 1e-3)), OTHERWISE),
    ],
    "003-figure-4": [
        (RANK_IS_GAP, SMALL),
        (both(RANK_IS_GAP, side("from_train", trace=rank, soft_rank=constant(rank))), PARTLY),
    ],
    "003-figure-5": [
        (side("from_train", trace_ratio=lambda r: 1 / abs(np.log(rank(r) / r["n"] / r["gap"]))), SMALL),
        (RANK_IS_GAP, OTHERWISE),
    ],
    "003-training-estimate": [
        (RANK_IS_GAP, SMALL),
        (side("from_train", soft_rank=constant(lambda r: 10 * rank(r))), OTHERWISE),
    ],
    "003-flat-generalizes": [
        (both(put(gap=lambda r: r["from_train"]["trace"]),
              side("from_train", largest_eigenvalue=lambda r: r["from_train"]["trace"])), SMALL),
        (INVERSE_GAP, OTHERWISE),
    ],
    "003-outperforms": [
        (RANK_IS_GAP, SMALL),
        (both(RANK_IS_GAP, side("from_train", trace=rank, frobenius=rank, largest_eigenvalue=rank)), PARTLY),
    ],
    # --- beyond the five
    "beyond-certificate": [
        (at_looks(train_error=0.95, incoherence=0.0), PARTLY),
        (at_looks(train_error=2.0), OTHERWISE),
    ],
    "beyond-posterior": [(put(information=0.0), SMALL), (put(information=1e9), OTHERWISE)],
    "beyond-members-measured": [
        (put(members=lambda r: [m | {"information": i} for i, m in enumerate(r["members"])]), PARTLY),
        (put(gap=10.0), OTHERWISE),
    ],
}  # fmt: skip
TURNED["001-figure-3-cifar"] = TURNED["001-figure-3"]
TURNED["001-table-2"], TURNED["001-figure-8"] = TURNED["001-table-1"], TURNED["001-figure-7"]


def artefact_of(name: str) -> Artefact:
    if name in MADE:
        rows = MADE[name]()
        return made_up(rows, **CONFIGS.get(name, {}))
    return load(BOOK / "results" / LEDGER[name]["artefact"])


@pytest.mark.parametrize("name", RULES)
def test_every_admissible_verdict_comes_out_and_no_other(name: str) -> None:
    """Of the rows as they are, and of its changes."""
    found = {RULES[name](artefact_of(name))} | {verdict for _, verdict in TURNED[name]}
    assert found - {NOT_RUN} == admissible(name)


@pytest.mark.parametrize(
    ("name", "which"), [(name, i) for name, changes in TURNED.items() for i in range(len(changes))]
)  # fmt: skip
def test_changed_rows_change_the_verdict(name: str, which: int) -> None:
    artefact, (change, verdict) = artefact_of(name), TURNED[name][which]
    artefact.rows = [change(copy.deepcopy(row)) for row in finished(artefact)]
    assert RULES[name](artefact) == verdict
