"""A fingerprint of code: what it does changes it; how and where it is written down does not.

The fingerprint of a module is the SHA-256 of its syntax tree in a canonical form. Layout, comments and docstrings are
not in the tree. A name that was imported from the package stands there as the fingerprint of the module that defines
it, and its name there, whichever way it came: file names and import paths do not count either, so a module may be
renamed or moved, and what is imported counts with all that it imports. Fields of the tree that are empty are left out,
and texts are written in ASCII, so every version of Python that can parse a module gives it the same fingerprint.

What carries rows without changing them, the folder ``machinery``, counts by its names alone.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

MACHINERY = "machinery"
SKIPPED = {"ctx", "kind", "type_comment", "type_ignores"}  # follow from the rest, or say nothing to Python
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Module:
    """A module of the package: its tree, and where each name that it imports from the package comes from.

    Attributes:
        here: the package that relative imports start from.
        targets: all that it imports from the package, as (module, name within it, or "" for the module itself).
        imports: local name -> target, where nothing else binds the name.
        defined: names bound at the top of the module by anything but such an import.
    """

    tree: ast.Module
    here: list[str]
    targets: frozenset[tuple[str, str]]
    imports: dict[str, tuple[str, str]]
    defined: frozenset[str]


NOTHING = Module(ast.Module([], []), [], frozenset(), {}, frozenset())


class Package:
    """The modules below a folder, by dotted name."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, root.name
        self.module = cache(self._parsed)
        self._digests: dict[str, str] = {}
        self._open: list[str] = []

    def digest(self, module: str) -> str:
        """Fingerprint of a module of the package.

        Raises:
            ValueError: if there is no such module, or modules import one another in a circle.
        """
        if module not in self._digests:
            if module in self._open:
                raise ValueError(f"{' and '.join(self._open)} import one another in a circle; part them")
            self._open.append(module)
            try:
                self._digests[module] = self.digest_of(self.module(module))
            finally:
                self._open.pop()
        return self._digests[module]

    def digest_of(self, module: Module) -> str:
        """Fingerprint of a parsed module, of this package or of another that imports from it."""
        writer = _Form(self, module)
        form = writer.of(module.tree)
        for target in module.targets:
            if not self._is_package(*target):
                writer.reference(*target)  # an import may do something, used or not
        form = [sorted(writer.imported - {""}), form]
        return hashlib.sha256(json.dumps(form, separators=(",", ":")).encode()).hexdigest()

    def file(self, module: str) -> Path | None:
        """The file of a dotted name, None if it is no module of this package."""
        base = self.root.parent.joinpath(*module.split("."))
        if module.split(".")[0] != self.name:
            return None
        return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)

    def _parsed(self, module: str) -> Module:
        path = self.file(module)
        if path is None:
            raise ValueError(f"there is no module {module} below {self.root}")
        return self.parse(path.read_text(encoding="utf-8"), module, package=path.name == "__init__.py")

    def parse(self, text: str, module: str = "", *, package: bool = False) -> Module:
        """A source text; ``module`` and ``package`` say what its relative imports start from."""
        tree = ast.parse(text)
        here = module.split(".") if package else module.split(".")[:-1]
        pairs = [pair for node in ast.walk(tree) for pair in self.targets(node, here)]
        imports = dict(pairs)
        bound = {name for name, target in pairs if imports[name] != target} | set(self._bound(tree, here))
        top = {name for part in _at_the_top(tree.body) for name in self._bound(part, here, deep=False)}
        clear = {name: target for name, target in pairs if name not in bound}
        whole = {
            (alias.name, "")
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name.split(".")[0] == self.name
        }
        return Module(tree, here, frozenset({target for _, target in pairs} | whole), clear, frozenset(top))

    def targets(self, node: ast.AST, here: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
        """Local names that an import statement binds to things of this package, with what they are."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == self.name:
                    yield (alias.asname, (alias.name, "")) if alias.asname else (self.name, (self.name, ""))
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, here)
            if source.split(".")[0] == self.name:
                yield from ((alias.asname or alias.name, (source, alias.name)) for alias in node.names)

    def _bound(self, tree: ast.AST, here: list[str], *, deep: bool = True) -> Iterator[str]:
        """Names that a tree binds other than by imports from this package; ``deep``: in functions and classes too."""
        todo: list[ast.AST] = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, DEFINITIONS):
                yield node.name
                if not deep:
                    continue
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                yield node.id
            elif isinstance(node, ast.arg):
                yield node.arg
            elif isinstance(node, ast.Import | ast.ImportFrom):
                ours = {name for name, _ in self.targets(node, here)}
                names = (alias.asname or alias.name.split(".")[0] for alias in node.names)
                yield from (name for name in names if name not in ours)
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
                yield node.name
            elif isinstance(node, ast.MatchMapping) and node.rest:
                yield node.rest
            todo += ast.iter_child_nodes(node)

    def _resolved(self, module: str, names: list[str]) -> tuple[str, list[str]]:
        """The module that defines ``names`` of ``module``, and the names there: through re-exports, to the source."""
        seen = set()
        while names and (module, *names) not in seen and not self._is_machinery(module):
            seen.add((module, *names))
            here = NOTHING if module == self.name else self.module(module)  # the package itself hands nothing on
            if names[0] in here.imports:
                module, name = here.imports[names[0]]
                names = [*([name] if name else []), *names[1:]]
            elif names[0] not in here.defined and self.file(f"{module}.{names[0]}"):
                module, names = f"{module}.{names[0]}", names[1:]
            else:
                break
        return module, names

    def _is_package(self, module: str, name: str) -> bool:
        """Whether an import names a package as a whole, which counts by the names in use that it hands on."""
        module, rest = self._resolved(module, [name] if name else [])
        path = self.file(module)
        return not rest and path is not None and path.name == "__init__.py"

    def _is_machinery(self, module: str) -> bool:
        return MACHINERY in module.split(".")

    def reference(self, module: str, *names: str) -> list[str]:
        """What stands for ``module.names`` in a canonical form."""
        module, rest = self._resolved(module, [name for name in names if name])
        if self._is_machinery(module):
            return [MACHINERY, "", *rest]
        return ["code", "" if module == self.name else self.digest(module), *rest]


def _source(node: ast.ImportFrom, here: list[str]) -> str:
    """The module that ``from ... import`` names, in full."""
    up = here[: len(here) - node.level + 1] if node.level else []
    return ".".join([*up, *(node.module.split(".") if node.module else [])])


def _at_the_top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, those in branches included."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(statement, DEFINITIONS):
                yield from _at_the_top(getattr(statement, field, []))


class _Form:
    """The canonical form of a module's tree, as nested lists and dictionaries of texts."""

    def __init__(self, package: Package, module: Module) -> None:
        self.package, self.module = package, module
        self.imported: set[str] = set()  # fingerprints of the modules behind all references

    def reference(self, module: str, *names: str) -> list[str]:
        reference = self.package.reference(module, *names)
        self.imported.add(reference[1])
        return reference

    def of(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.of(item) for item in value if not self._silent(item)]
        if not isinstance(value, ast.AST):
            return value  # a name, a number of dots or of a conversion, None
        if isinstance(value, ast.Constant):
            return [type(value.value).__name__, value.value if isinstance(value.value, str) else repr(value.value)]
        if (reference := self._of_name(value)) is not None:
            return reference
        if isinstance(value, ast.JoinedStr):
            return ["JoinedStr", self._pieces(value)]
        if isinstance(value, ast.Import | ast.ImportFrom) and (targets := self._targets(value)):
            ours = {name for name, _ in targets}
            others = [alias.name for alias in value.names if (alias.asname or alias.name.split(".")[0]) not in ours]
            return ["import", sorted([name, self.reference(*target)] for name, target in targets), others]
        fields = {name: self.of(item) for name, item in ast.iter_fields(value) if name not in SKIPPED}
        return [type(value).__name__, {name: fields[name] for name in sorted(fields) if not _empty(fields[name])}]

    def _silent(self, item: Any) -> bool:
        """Statements that do nothing: texts, ``pass``, and imports whose names stand as references."""
        if isinstance(item, ast.Expr):
            return isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)
        if isinstance(item, ast.Import | ast.ImportFrom):
            targets = self._targets(item)
            return len(targets) == len(item.names) and all(name in self.module.imports for name, _ in targets)
        return isinstance(item, ast.Pass)

    def _targets(self, node: ast.AST) -> list[tuple[str, tuple[str, str]]]:
        return list(self.package.targets(node, self.module.here))

    def _of_name(self, node: ast.AST) -> list[str] | None:
        """What a name imported from the package, with the attributes that follow it, stands for."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.module.imports:
            return None
        return self.reference(*self.module.imports[node.id], *attributes)

    def _pieces(self, node: ast.JoinedStr) -> list[Any]:
        """The pieces of an f-string; texts side by side, which versions of Python divide differently, are one."""
        pieces: list[Any] = []
        for piece in map(self.of, node.values):
            if piece[0] == "str" and pieces and pieces[-1][0] == "str":
                pieces[-1] = ["str", pieces[-1][1] + piece[1]]
            elif piece != ["str", ""]:
                pieces.append(piece)
        return pieces


def _empty(form: Any) -> bool:
    return form is None or form in ([], ["JoinedStr", []])
