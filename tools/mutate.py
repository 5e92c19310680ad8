"""Do the tests notice when the code is wrong? A bounded sample of mutants, one small change each, and a score.

    python tools/mutate.py [--sample 300] [--seed 0] [--group NAME ...] [--out FILE] [--again FILE] [--least 0.9]

A mutant is the syntax tree of one module with one node changed: a comparison, an arithmetic or boolean operator, a
number or truth value, min for max, any for all, or a keyword argument that is left out. Only the test files that belong
to the module are run, in a forked process that has PyTorch loaded, and they stop at the first failure. Killed: a test
failed, or the time ran out. Not mutated: what is said to readers (messages, annotations, settings of profiles), and
``strict=`` of ``zip``, which guards against mistakes that are not made.

``benchmarks/equivalent_mutants.json`` lists mutants that no test can tell from the code, with the reason; they are
counted apart. The score is the share of the others that are killed.
"""

import argparse
import ast
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = ROOT / "benchmarks" / "equivalent_mutants.json"
OUT = ROOT / "book" / "mutation.json"

_CURVATURE = ["curvature/test_contracts", "curvature/test_products", "curvature/test_traces", "curvature/test_krylov"]
_OMNISCIENT = ["omniscient/test_bound", "omniscient/test_surrogate"]
_RESNET = ["experiments/test_resnet18"]
_RUNNER = ["experiments/test_runner", "experiments/test_command_line"]
TESTS: dict[str, dict[str, list[str]]] = {  # group: module below src/helpers: its test files, the likeliest first
    "bounds": {
        "xu_raginsky": ["test_xu_raginsky"],
        "neu": ["test_neu"],
        "pac_bayes": ["test_pac_bayes"],
        "wang_mao/dispersion": ["wang_mao/test_dispersion"],
        "wang_mao/information": ["wang_mao/test_information"],
        "wang_mao/isotropic": ["wang_mao/test_isotropic"],
        "wang_mao/relu_networks": ["wang_mao/test_relu_networks"],
        "wang_mao/theorems": ["wang_mao/test_theorems"],
        "convex": ["test_convex"],
        "excess_risk": ["test_excess_risk"],
        "exchange": ["test_exchange"],
        "losses": ["test_losses", *_CURVATURE[:1]],
    },
    "curvature": {
        "curvature/affine": [
            _CURVATURE[2],
            _CURVATURE[0],
            "curvature/test_strange_models",
            "curvature/test_derivatives",
        ],
        "curvature/batches": [_CURVATURE[1]],
        "curvature/contracts": [_CURVATURE[0], _CURVATURE[1]],
        "curvature/estimates": ["curvature/test_estimates"],
        "curvature/krylov": [_CURVATURE[3]],
        "curvature/per_example": ["curvature/test_per_example", _CURVATURE[0], _CURVATURE[2]],
        "curvature/products": [_CURVATURE[1], _CURVATURE[0]],
        "curvature/routes": [_CURVATURE[0], _CURVATURE[1]],
        "curvature/shifted": [_CURVATURE[3]],
        "curvature/subspace": ["curvature/test_subspace"],
        "curvature/traces": [_CURVATURE[2], _CURVATURE[0]],
    },
    "omniscient": {
        "omniscient/bound": [*_OMNISCIENT, "omniscient/test_rows"],
        "omniscient/runs": _OMNISCIENT,
        "omniscient/rows": ["omniscient/test_rows", *_OMNISCIENT],
        "omniscient/surrogate": _OMNISCIENT[::-1],
    },
    "comparison": {
        "comparison": ["test_comparison"],
        "measurement": [
            "test_measurement",
            "test_comparison",
            "experiments/test_every_bound",
            "experiments/test_trends",
        ],
    },
    "widgets": {
        "widgets/chart": ["widgets/test_widgets"],
        "widgets/curves": ["widgets/test_widgets"],
        "widgets/plane": ["widgets/test_widgets"],
    },
    "experiments": {
        "experiments/convex_rates": ["experiments/test_convex_rates"],
        "experiments/double_descent": ["experiments/test_double_descent"],
        "experiments/escape": ["experiments/test_escape"],
        "experiments/flat_training": ["experiments/test_flat_training"],
        "experiments/gap_predictors": ["experiments/test_gap_predictors"],
        "experiments/label_noise_clipping": ["experiments/test_label_noise_clipping"],
        "experiments/linear_relu": ["experiments/test_linear_relu"],
        "experiments/matched_loss": ["experiments/test_matched_loss"],
        "experiments/every_bound": ["experiments/test_every_bound", "experiments/test_matched_loss"],
        "experiments/noise_alignment": ["experiments/test_noise_alignment"],
        "experiments/parity": ["experiments/test_stable_minima", "experiments/test_escape"],
        "experiments/predictions": ["experiments/test_double_descent", "experiments/test_label_noise_clipping"],
        "experiments/resnet18_grid": _RESNET,
        "experiments/resnet18_middle": ["experiments/test_resnet18_middle", *_RESNET],
        "experiments/resumable": ["experiments/test_resumable"],
        "experiments/stable_minima": ["experiments/test_stable_minima"],
        "experiments/trends": ["experiments/test_trends"],
        "experiments/machinery/artefact": ["experiments/test_artefact"],
        "experiments/machinery/config": ["experiments/test_config"],
        "experiments/machinery/fingerprint": ["experiments/test_fingerprint"],
        "experiments/machinery/library": ["experiments/test_library"],
        "experiments/machinery/restamp": ["experiments/test_restamp"],
        "experiments/machinery/runner": _RUNNER,
        "experiments/machinery/storage": ["experiments/test_artefact"],
    },
}

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip
NAMES = {"min": "max", "amin": "amax", "any": "all", "argmin": "argmax"}
NAMES |= {new: old for old, new in NAMES.items()}


@dataclass(frozen=True)
class Mutant:
    """One change: where (``text`` is the line), what it was, what it is; ``step`` and ``variant`` find its node."""

    module: str
    line: int
    text: str
    operator: str
    was: str
    now: str
    step: int
    variant: int

    @property
    def key(self) -> str:
        """What names it in the list of equivalent mutants: stays when lines move."""
        return f"{self.module}: {self.text}: {self.was} -> {self.now}"


# --- The changes ------------------------------------------------------------------------------------------------------


def _walk(node: ast.AST, *, settings: bool) -> Iterator[ast.AST]:
    """The nodes that do something: no messages, annotations, decorators; no module-level constants if ``settings``."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise | ast.JoinedStr):
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or (settings and isinstance(node, ast.Module) and _constant(child)):
                continue
            yield from _walk(child, settings=settings)


def _constant(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id.isupper() for target in targets)


def _changes(node: Any) -> list[tuple[str, Any]]:
    """Every change of one node: its kind, and a function that makes it in place."""
    found: list[tuple[str, Any]] = []

    def setting(kind: str, name: str, value: Any) -> None:
        found.append((kind, lambda target: setattr(target, name, value)))

    if isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            setting("comparison", "ops", [*node.ops[:place], COMPARISONS[type(op)](), *node.ops[place + 1 :]])
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        setting("arithmetic", "op", OPERATORS[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        setting("boolean", "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        setting("unary", "op", ast.UAdd() if isinstance(node.op, ast.USub) else _Nothing())
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        setting("constant", "value", not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in NAMES:
            setting("name", "func", ast.Name(NAMES[node.func.id], ast.Load()))
        elif isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
            setting("name", "func", ast.Attribute(node.func.value, NAMES[node.func.attr], ast.Load()))
        for place, keyword in enumerate(node.keywords):
            if keyword.arg != "strict":
                setting("keyword", "keywords", node.keywords[:place] + node.keywords[place + 1 :])
    return found


class _Nothing(ast.unaryop):
    """Stands for an operator that is left out."""


class _Cleaner(ast.NodeTransformer):
    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, _Nothing) else node


def _tree(module: str, root: Path = ROOT) -> ast.Module:
    return ast.parse((root / "src" / "helpers" / f"{module}.py").read_text(encoding="utf-8"))


def mutants(module: str) -> list[Mutant]:
    """All mutants of a module, in the order of its text."""
    tree, found = _tree(module), []
    lines = (ROOT / "src" / "helpers" / f"{module}.py").read_text(encoding="utf-8").splitlines()
    for step, node in enumerate(_walk(tree, settings=module.startswith("experiments"))):
        for variant, (kind, change) in enumerate(_changes(node)):
            target = deepcopy(node)
            change(target)
            was, now = (_shown(part) for part in (node, target))
            line = getattr(node, "lineno", 1)
            found.append(Mutant(module, line, lines[line - 1].strip(), kind, was, now, step, variant))
    return found


def _shown(node: ast.AST) -> str:
    text = ast.unparse(_Cleaner().visit(deepcopy(node)))
    return text if len(text) <= 160 else f"{text[:78]} ... {text[-78:]}"


def source(mutant: Mutant, root: Path = ROOT) -> str:
    """The text of the mutated module."""
    tree = _tree(mutant.module, root)
    node = list(_walk(tree, settings=mutant.module.startswith("experiments")))[mutant.step]
    _changes(node)[mutant.variant][1](node)
    return ast.unparse(ast.fix_missing_locations(_Cleaner().visit(tree)))


def survivors(report: dict[str, Any]) -> list[Mutant]:
    """Those of an earlier report, found again in the code of now."""
    wanted = {tuple(entry[name] for name in ("module", "text", "was", "now")) for entry in report["survivors"]}
    pool = [mutant for module in sorted({entry[0] for entry in wanted}) for mutant in mutants(module)]
    return [mutant for mutant in pool if (mutant.module, mutant.text, mutant.was, mutant.now) in wanted]


def drawn(groups: Sequence[str], size: int, seed: int) -> list[Mutant]:
    """As many mutants of each group, without replacement."""
    chosen: list[Mutant] = []
    for place, group in enumerate(groups):
        pool = [mutant for module in TESTS[group] for mutant in mutants(module)]
        count = size // len(groups) + (place < size % len(groups))
        chosen += random.Random(f"{group} {seed}").sample(pool, min(count, len(pool)))
    random.Random(seed).shuffle(chosen)  # a run that is cut short is a fair sample, too
    return chosen


# --- Running ----------------------------------------------------------------------------------------------------------


def _child(copy: Path, files: list[str], log: Path) -> None:
    """pytest in the forked process; its exit status is the process's."""
    os.setsid()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy / "src")
    sys.path.insert(0, str(copy / "src"))
    import pytest

    paths = [str(copy / "tests" / f"{name}.py") for name in files]
    os._exit(
        int(
            pytest.main(
                ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=line", "--hypothesis-seed=0", *paths]
            )
        )
    )


def outcome(copy: Path, files: list[str], seconds: float) -> str:
    """ "passed", "failed" or "timeout" of the test files on what lies in the copy."""
    process = multiprocessing.get_context("fork").Process(target=_child, args=(copy, files, copy / "log.txt"))
    process.start()
    process.join(seconds)
    if process.is_alive():
        os.killpg(process.pid or 0, 9)
        process.join()
        return "timeout"
    return "passed" if process.exitcode == 0 else "failed"


def copied(folder: Path) -> Path:
    """What git tracks, copied, so that a mutant never lies in the working tree."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run(chosen: Sequence[Mutant], out: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Test every mutant; the report so far is written after each one."""
    import torch

    torch.set_num_threads(1)
    for name in ("hypothesis", "numpy", "pytest", "scipy.linalg", "scipy.optimize", "scipy.stats"):
        __import__(name)  # what the tests load anyway, before the forks
    equivalent = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}
    usual: dict[tuple[str, ...], float] = {}
    found: list[tuple[Mutant, str]] = []
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        for place, mutant in enumerate(chosen, 1):
            files = next(tests[mutant.module] for tests in TESTS.values() if mutant.module in tests)
            if tuple(files) not in usual:
                started = time.monotonic()
                if outcome(copy, files, 1200) != "passed":
                    raise SystemExit(f"{', '.join(files)} fail without a mutant:\n{(copy / 'log.txt').read_text()}")
                usual[tuple(files)] = time.monotonic() - started
            path = copy / "src" / "helpers" / f"{mutant.module}.py"
            before = path.read_text(encoding="utf-8")
            path.write_text(source(mutant, copy), encoding="utf-8")
            result = outcome(copy, files, 4 * usual[tuple(files)] + 20)
            path.write_text(before, encoding="utf-8")
            found.append((mutant, "equivalent" if result == "passed" and mutant.key in equivalent else result))
            print(f"{place}/{len(chosen)} {found[-1][1]:10} {mutant.module}:{mutant.line} {mutant.was} -> {mutant.now}")
            sys.stdout.flush()
            report = reported(found, settings)
            if out is not None:
                out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def reported(found: Sequence[tuple[Mutant, str]], settings: dict[str, Any]) -> dict[str, Any]:
    """Counts by group, the score, and every survivor."""
    groups = {module: group for group, tests in TESTS.items() for module in tests}
    counts: dict[str, Counter[str]] = {}
    for mutant, result in found:
        kind = "survived" if result == "passed" else "equivalent" if result == "equivalent" else "killed"
        counts.setdefault(groups[mutant.module], Counter())[kind] += 1
    total = sum(counts.values(), Counter())
    killed, survived = total["killed"], total["survived"]
    kept = ("module", "line", "text", "operator", "was", "now")
    return {
        **settings,
        "mutants": len(found),
        "killed": killed,
        "equivalent": total["equivalent"],
        "score": killed / max(killed + survived, 1),
        "groups": {group: dict(sorted(count.items())) for group, count in counts.items()},
        "survivors": [{key: asdict(m)[key] for key in kept} for m, result in found if result == "passed"],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=300, help="mutants, as many of each group")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", action="append", choices=sorted(TESTS), help="may be given several times")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only the survivors of this report")
    parser.add_argument("--least", type=float, default=0.0, help="fail below this score")
    options = parser.parse_args(arguments)
    groups = options.group or list(TESTS)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    settings = {"commit": commit.strip(), "seed": options.seed, "sample": options.sample}
    again = survivors(json.loads(options.again.read_text())) if options.again else None
    report = run(again or drawn(groups, options.sample, options.seed), options.out, settings)
    print(f"score {report['score']:.3f}: {report['killed']} killed, {len(report['survivors'])} survived")
    if report["score"] < options.least:
        raise SystemExit(f"the score is below {options.least}")


if __name__ == "__main__":
    main()
