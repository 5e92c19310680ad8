"""Rows made by hand for the rules of the ledger, where an artefact is not there yet or has too few usable points."""

from helpers.experiments.machinery.artefact import Artefact, Json

GRID = {"batch_size": (20, 60, 180), "lr": (0.005, 0.01, 0.02)}
CLEAN: Json = {
    "clipped_share": 0.0, "converged": True, "negative_curvature": False, "noise_to_weight": 0.5, "trace_error": 0.1,
    "trace_term": 1.0,
}  # fmt: skip


def grid(gap: float, bound: float, seeds: tuple[int, ...] = (0, 1)) -> list[Json]:
    """A grid in which gap and small-lambda bound are powers of batch size and learning rate."""
    return [
        {
            "regime": "fixed epochs",
            "seed": seed,
            "batch_size": b,
            "lr": lr,
            "gap": (b * lr) ** gap * (1.01 if i % 2 else 0.99),
            "train_loss": 0.5,
            "wang_mao_eq3": {"value": 900.0},
            "terminal": {"value": 90.0},
            "omniscient": [
                CLEAN | {"value": 9 * (b * lr) ** bound, "holdout_share": 0.3},
                CLEAN | {"value": (b * lr) ** gap, "holdout_share": 0.9},
            ],
            "self_certified": [CLEAN | {"certificate": 1.5}],
        }
        for seed in seeds
        for i, (b, lr) in enumerate((b, lr) for b in GRID["batch_size"] for lr in GRID["lr"])
    ]


def made_up(rows: list[Json], profile: str = "laptop", **config: object) -> Artefact:
    return Artefact("made-up", profile, dict(config), {}, [{} for _ in rows], [dict(row) for row in rows])
