"""The architecture of the library, read off its source. `python tests/architecture.py` prints the import graph.

A room is a folder or a module of `scripts/vlmrank`. Rooms stand on each other in the order of `ROOMS`: each may import
from those before it.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "scripts" / "vlmrank"
ROOMS = (
    *("errors", "text", "files", "textfile", "data"),
    *("representation", "alignment", "divergence", "ranking", "predictions", "by_image", "metrics"),
    *("store", "models", "datasets", "conductance", "accuracy", "zoo"),
    *("baselines", "evaluation", "answer", "published"),
    *("workflow", "jobs", "report", "demo", "quickstart", "cli"),
)
# Importing any other room imports neither PyTorch nor a library that needs it.
TORCH_ROOMS = {"models", "conductance", "zoo", "demo"}
TORCH = {"torch", "torchvision", "open_clip", "timm", "captum", "transformers"}
MAX_LINES_OF_FILE, MAX_LINES_OF_FUNCTION, MAX_PARAMETERS = 400, 60, 8
# The one module that may touch private names of each package.
ADAPTERS = {
    "open_clip": "models.open_clip_adapter",
    "torch": "models.torch_adapter",
    "snakemake": "workflow.snakemake_patch",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def modules() -> dict[str, Path]:
    """Module, without the name of the package -> its file; a package by its own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def room_of(module: str) -> str:
    return module.split(".")[0]


@functools.cache
def imports() -> set[tuple[str, str]]:
    """(module, imported module), both within the package."""
    known, found = modules(), set()
    for name, path in known.items():
        for node in ast.walk(tree(path)):
            found |= {(name, target) for target in _imported(node, known) if target != name}
    return found


def _imported(node: ast.AST, known: Container[str]) -> Iterator[str]:
    """Modules of the package that a statement imports."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vlmrank":
        base = node.module.removeprefix("vlmrank").lstrip(".")
        for alias in node.names:
            whole = f"{base}.{alias.name}".lstrip(".")
            if target := whole if whole in known else base:
                yield target
    elif isinstance(node, ast.Import):
        names = (alias.name.partition(".") for alias in node.names)
        yield from (rest for package, _, rest in names if package == "vlmrank" and rest)


@functools.cache
def on_import(module: str) -> frozenset[str]:
    """Packages that importing a module imports; imports inside functions do not count."""
    known, found, seen, pending = modules(), set(), set(), [module]
    while pending:
        module = pending.pop()
        if module in seen or module not in known:
            continue
        seen.add(module)
        for node in _statements(tree(known[module]).body):
            pending += _imported(node, known)
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
        pending.append(module.rpartition(".")[0])
    return frozenset(found)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported; not those for type checkers alone."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _statements([*statement.body, *getattr(statement, "orelse", ())])


@functools.cache
def arrows() -> dict[tuple[str, str], int]:
    """(room, imported room) -> number of imports."""
    found: dict[tuple[str, str], int] = {}
    for name, target in imports():
        key = room_of(name), room_of(target)
        if key[0] != key[1]:
            found[key] = found.get(key, 0) + 1
    return found


def upward() -> set[str]:
    """Imports of a room that stands above, `module -> module`."""
    order = {room: position for position, room in enumerate(ROOMS)}
    return {
        f"{name} -> {target}"
        for name, target in imports()
        if order.get(room_of(target), len(ROOMS)) > order.get(room_of(name), -1)
    }


def circles() -> list[set[str]]:
    """Modules that import each other, directly or not."""
    direct: dict[str, set[str]] = {}
    for name, target in imports():
        direct.setdefault(name, set()).add(target)
    reached = {name: _closure(name, direct) for name in direct}
    found: list[set[str]] = []
    for name in sorted(direct):
        circle = {other for other in reached[name] if name in reached.get(other, ())}
        if circle and circle not in found:
            found.append(circle)
    return found


def _closure(name: str, direct: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = list(direct.get(name, ()))
    while pending:
        target = pending.pop()
        if target not in found:
            found.add(target)
            pending += direct.get(target, ())
    return found


def functions() -> Iterator[tuple[str, Function]]:
    """(module:name, node) of every function and method."""
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield f"{name}:{node.name}", node


def lines_of(function: Function) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    prose = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if prose else 0)


def parameters_of(function: Function) -> int:
    """Parameters of a function, without `self`; a kernel must take shapes and strides one by one and counts as none."""
    if any(ast.unparse(decorator) == "triton.jit" for decorator in function.decorator_list):
        return 0
    arguments = function.args
    named = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + sum(
        argument is not None for argument in (arguments.vararg, arguments.kwarg)
    )


def private_names() -> set[str]:
    """`module: package.name` of private names of other packages, outside the package's adapter."""
    own = {"_"}
    for path in modules().values():
        for node in ast.walk(tree(path)):
            if isinstance(node, Function | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.id if isinstance(node, ast.Name) else "")
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                    own.add(node.attr)
    found = set()
    for name, path in modules().items():
        if name in ADAPTERS.values():
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] != "vlmrank":
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                found |= {f"{name}: {node.module}.{part}" for part in parts if _is_private(part)}
            elif isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own:
                found.add(f"{name}: {ast.unparse(node)}")
    return found


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def main() -> None:
    """Print which room imports which, and the counts."""
    drawn, names = arrows(), modules()
    rooms = sorted({room_of(name) for name in names}, key=lambda room: ROOMS.index(room) if room in ROOMS else -1)
    for room in rooms:
        used = [f"{target} ({count})" for (one, target), count in sorted(drawn.items()) if one == room]
        print(f"{room:15} {', '.join(used) or '-'}")
    print(
        f"\n{len(rooms)} rooms, {len(names)} modules, {len(drawn)} arrows between rooms, {len(imports())} imports "
        f"between modules, {len(upward())} upwards, {len(circles())} circles"
    )


if __name__ == "__main__":
    sys.exit(main())
