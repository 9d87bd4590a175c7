"""Hash exactly the code that a rule uses, since Snakemake does not see an edit in an imported module.

The hash covers definitions by name and text, not by place: moving a function or a module changes no hash. Docstrings,
comments, layout, annotations of functions, the text of messages (in `raise`, `assert`, logging and progress calls) and
what an object prints (`__repr__`) are left out.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrank.errors import VlmrankError

PACKAGE = "vlmrank"
ROOT = Path(__file__).resolve().parent.parent
# Decorators without side effects; a definition under any other one counts as used on import.
PURE_DECORATORS = {"dataclass", "property", "cache", "lru_cache", "cached_property", "contextmanager", "wraps"} | {
    *("staticmethod", "classmethod", "no_grad", "inference_mode", "overload")
}
# Calls that only print a message: `say(...)`, `self.say(...)`, `logger.info(...)`, `warnings.warn(...)`.
MESSAGES = {"say", "announce", "print", "warn"}
LOGGERS, LEVELS = {"log", "logger", "logging"}, {"debug", "info", "warning", "error", "exception", "critical", "log"}
# How a file is written, not what it holds.
NOT_FOLLOWED = {"atomic"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Key = tuple[str, str]  # (module, name of a definition); `*`: what runs on import; a path: a file that is not Python
EFFECTS = "*"


@dataclass(frozen=True)
class Reference:
    """A definition that is used; `name` None is a whole module."""

    module: str
    name: str | None


@dataclass(frozen=True)
class Content:
    """The hashed content of a definition: its normalised text, and its references in the order of the text."""

    text: str
    references: tuple[Reference, ...] = ()


@dataclass
class _Module:
    """The top level of a source file: definitions, imports, and other statements that run on import."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[Reference]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


def code_hash(*entries: str, root: Path = ROOT) -> str:
    """Hash the code that the entries reach within the package.

    Parameters
    ----------
    entries : `vlmrank.module:name` for a function and everything that it reaches; `vlmrank.module` for a whole module,
        and for a package all its files, templates included.
    root : folder of the package.

    Returns
    -------
    16 hexadecimal digits, equal exactly when no reached definition has changed. Editing a function that is not reached
    changes nothing, nor does moving one. If it is unclear what is reached, the whole module counts.

    Raises
    ------
    VlmrankError : an entry does not exist.
    """
    package = _package(root)
    digests = _digests(package, package.reached(entries))
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]


def reached(*entries: str, root: Path = ROOT) -> set[Key]:
    """(module, name) of every definition that `code_hash` of these entries covers.

    Raises
    ------
    VlmrankError : an entry does not exist.
    """
    return set(_package(root).reached(entries))


def _package(root: Path) -> _Package:
    root = Path(root)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return _read_package(root, tuple((path, path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=2)
def _read_package(root: Path, files: tuple[tuple[Path, int], ...]) -> _Package:
    """Read a package; cached until a modification time changes."""
    return _Package(root, [path for path, _ in files])


def _digests(package: _Package, keys: dict[Key, None]) -> list[str]:
    """Sorted digests of the definitions; each covers its references, which distinguishes equal names.

    Colour refinement: a digest starts from name and text, and is combined with the digests of the references until no
    further definitions are distinguished.
    """
    contents = {key: package.content(key) for key in keys}
    known = {key: _digest("" if key[1] == EFFECTS else key[1], content.text) for key, content in contents.items()}
    while True:
        refined = {
            key: _digest(known[key], [package.digest_of(reference, known) for reference in content.references])
            for key, content in contents.items()
        }
        if len(set(refined.values())) <= len(set(known.values())):
            return sorted(refined.values())
        known = refined


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Package:
    """All modules of a package; parses only what is reached."""

    def __init__(self, root: Path, files: list[Path]):
        self.root, self.modules, self.files = root, {}, files
        for path in files:
            if path.suffix == ".py":
                parts = path.relative_to(root).with_suffix("").parts
                self.modules[".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
        self._parsed: dict[str, _Module] = {}
        self._contents: dict[Key, Content] = {}
        self._statements: dict[int, Content] = {}
        self._members: dict[str, list[Key]] = {}

    def parse(self, name: str) -> _Module:
        if name not in self._parsed:
            if name not in self.modules:
                raise VlmrankError(f"code_hash: there is no module {name}")
            self._parsed[name] = _read(self.modules[name])
        return self._parsed[name]

    def members(self, module: str) -> list[Key]:
        """Everything in a module; for a package also its modules and other files."""
        if module not in self._members:
            found = [(module, EFFECTS)]
            parsed = self.parse(module)
            found += [(module, name) for name in parsed.definitions]
            if self.modules[module].name == "__init__.py":
                folder = self.modules[module].parent
                for name in self.modules:
                    if name.startswith(f"{module}."):
                        found += [(name, EFFECTS), *((name, defined) for defined in self.parse(name).definitions)]
                others = (path for path in self.files if path.suffix != ".py" and folder in path.parents)
                found += [(module, str(path.relative_to(self.root))) for path in others]
            self._members[module] = found
        return self._members[module]

    def resolve(self, module: str, name: str) -> list[Reference]:
        """Where `module.name` is defined, through any number of imports."""
        seen, found, pending = set(), [], [(module, name)]
        while pending:
            module, name = pending.pop(0)
            if (module, name) in seen:
                continue
            seen.add((module, name))
            if module == PACKAGE and f"{module}.{name}" not in self.modules:
                continue  # the package's version and description change no result
            parsed = self.parse(module)
            if name in parsed.definitions:
                found.append(Reference(module, name))
            elif name in parsed.imports:
                for target in parsed.imports[name]:
                    if target.name is None or f"{target.module}.{target.name}" in self.modules:
                        found.append(_whole(target))
                    else:
                        pending.append((target.module, target.name))
            elif f"{module}.{name}" in self.modules:
                found.append(Reference(f"{module}.{name}", None))
            else:
                found.append(Reference(module, None))  # defined dynamically: take the whole module
        return found

    def content(self, key: Key) -> Content:
        if key not in self._contents:
            self._contents[key] = self._make_content(*key)
        return self._contents[key]

    def _make_content(self, module: str, name: str) -> Content:
        parsed = self.parse(module)
        if name != EFFECTS and name not in parsed.definitions:
            return Content(hashlib.sha256((self.root / name).read_bytes()).hexdigest())
        statements = parsed.effects if name == EFFECTS else parsed.definitions[name]
        contents = [self._normalise(module, statement) for statement in statements]
        return Content(
            "\n".join(content.text for content in contents),
            tuple(reference for content in contents for reference in content.references),
        )

    def _normalise(self, module: str, statement: ast.stmt) -> Content:
        """Normalise a statement, in place and therefore once: `a, b = 1, 2` makes two definitions."""
        if id(statement) not in self._statements:
            normalise = _Normalise(self, module, statement)
            text = ast.unparse(normalise.visit(statement) or [])
            self._statements[id(statement)] = Content(text, tuple(normalise.references))
        return self._statements[id(statement)]

    def reached(self, entries: tuple[str, ...]) -> dict[Key, None]:
        found: dict[Key, None] = {}
        pending: list[Reference] = []
        for entry in entries:
            module, _, name = entry.partition(":")
            targets = self.resolve(module, name) if name and module in self.modules else [Reference(module, None)]
            if Reference(module, None) in targets and (name or module not in self.modules):
                raise VlmrankError(f"code_hash: there is no {entry}")
            pending += targets
        while pending:
            reference = pending.pop()
            keys = self.members(reference.module) if reference.name is None else [(reference.module, reference.name)]
            for key in keys:
                for new in (key, (key[0], EFFECTS)):
                    if new not in found:
                        found[new] = None
                        pending += self.content(new).references
        return {key: None for key in found if key[1] != EFFECTS or self.content(key).text}

    def digest_of(self, reference: Reference, known: dict[Key, str]) -> str | list[str]:
        if reference.name is not None:
            return known[reference.module, reference.name]
        return sorted(known[key] for key in self.members(reference.module) if key in known)


def _whole(target: Reference) -> Reference:
    return target if target.name is None else Reference(f"{target.module}.{target.name}", None)


def _read(path: Path) -> _Module:
    module = _Module()
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise VlmrankError(f"{path}: relative import; write `from {PACKAGE}.module import name`")
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if not isinstance(statement, Function | ast.ClassDef):
            _add_imports(module.imports, statement)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        names = list(_names_bound(statement))
        for name in names:
            module.definitions.setdefault(name, []).append(statement)
        decorators = [_called(decorator) for decorator in getattr(statement, "decorator_list", [])]
        if not names or not PURE_DECORATORS.issuperset(decorators):
            module.effects.append(statement)
    return module


def _add_imports(imports: dict[str, list[Reference]], tree: ast.AST) -> None:
    """Add the imports from the package to a mapping from the local name to what it may stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                imports.setdefault(alias.asname or alias.name, []).append(Reference(node.module, alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE and (alias.asname or "." in alias.name):
                    if not alias.asname:
                        raise VlmrankError(f"write `from {PACKAGE}... import ...` in place of `import {alias.name}`")
                    imports.setdefault(alias.asname, []).append(Reference(alias.name, None))


def _names_bound(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _called(call: ast.expr) -> str:
    node = call.func if isinstance(call, ast.Call) else call
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_message(call: ast.expr) -> bool:
    """Whether a call only prints a message: to a log, to the terminal, through a `say` argument."""
    if not isinstance(call, ast.Call):
        return False
    name = _called(call)
    if name in LEVELS and isinstance(call.func, ast.Attribute):
        return any(
            isinstance(node, ast.Name | ast.Attribute) and _called(node) in LOGGERS | {"getLogger"}
            for node in ast.walk(call.func.value)
        )
    return name in MESSAGES


def _has_text(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))


class _Normalise(ast.NodeTransformer):
    """Remove what changes no result, call each definition by its own name, and collect references."""

    def __init__(self, package: _Package, module: str, statement: ast.stmt):
        self.package, self.module, self.parsed = package, module, package.parse(module)
        self.local: dict[str, list[Reference]] = {}
        if isinstance(statement, Function | ast.ClassDef):
            _add_imports(self.local, statement)
        self.references: list[Reference] = []

    def _targets(self, node: ast.expr) -> list[Reference]:
        """What a name or a dotted name refers to; empty if it is not in the package."""
        if isinstance(node, ast.Name):
            imported = self.local.get(node.id) or self.parsed.imports.get(node.id)
            if imported and (node.id in self.local or node.id not in self.parsed.definitions):
                found = []
                for target in imported:
                    is_module = target.name is None or f"{target.module}.{target.name}" in self.package.modules
                    found += [_whole(target)] if is_module else self.package.resolve(target.module, target.name)
                return found
            return [Reference(self.module, node.id)] if node.id in self.parsed.definitions else []
        if isinstance(node, ast.Attribute):
            modules = [target.module for target in self._targets(node.value) if target.name is None]
            return [found for module in modules for found in self.package.resolve(module, node.attr)]
        return []

    def _follow(self, node: ast.expr) -> ast.expr | None:
        targets = self._targets(node)
        if not targets:
            return None
        self.references += [target for target in targets if target.name not in NOT_FOLLOWED]
        name = targets[0].name or getattr(node, "attr", None) or getattr(node, "id", "")
        return ast.Name(name, getattr(node, "ctx", ast.Load()))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._follow(node) or node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._follow(node) or self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.stmt | None:
        node.names = [alias for alias in node.names if alias.name.split(".")[0] != PACKAGE]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        return None if (node.module or "").split(".")[0] == PACKAGE else node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        if isinstance(node.value, ast.Constant) or _is_message(node.value):
            return None
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        node.msg = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [arg for arg in node.exc.args if not _has_text(arg)]
            node.exc.keywords = [keyword for keyword in node.exc.keywords if not _has_text(keyword.value)]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt | None:
        if node.name in ("__repr__", "_repr_html_"):  # words for people
            return None
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]
        return node
