"""The texts of the laboratory's scripts: no imports in them, no build step; they are read one after the other."""

from importlib.resources import files

PARTS = ("random", "worlds", "network", "training", "bounds", "along", "session", "portrait")
NAMES = (
    "digits", "unpack", "prepare", "epoch", "trained", "answers", "measure", "portrait", "plane", "keep", "warnings",
    "wang_mao", "DEFAULTS", "LAMBDAS", "CLASSES", "POOL",
)  # fmt: skip


def script(name: str, kind: str = "js") -> str:
    """The text of one of them."""
    return (files("helpers.widgets.laboratory") / f"{name}.{kind}").read_text(encoding="utf-8")


ENGINE = "\n".join(map(script, PARTS))
# One function, so that its own text can be handed to a worker.
ENGINE_MODULE = f'function engine() {{\n"use strict";\n{ENGINE}\nreturn {{ {", ".join(NAMES)} }};\n}}\n'
