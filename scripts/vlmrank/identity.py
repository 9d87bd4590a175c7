"""What a result depends on: the code behind it and the content of its inputs.

Snakemake sees neither an edit in an imported module nor that two working directories want the same result. A rule
therefore carries `code_hash` of exactly the functions that it uses, and a pair is kept under the hash of everything
that went into it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrank.errors import VlmrankError

PACKAGE = "vlmrank"
ROOT = Path(__file__).resolve().parent
# Decorators that only wrap; a definition under any other one may register itself and counts as used on import.
PURE_DECORATORS = {"dataclass", "property", "cache", "lru_cache", "cached_property", "contextmanager", "wraps"} | {
    *("staticmethod", "classmethod", "no_grad", "inference_mode", "overload")
}


# --- code ------------------------------------------------------------------------------------------------------------


class _Statement:
    """A top-level statement: its text, the names that it reads, and the `name.attribute` pairs that it reads."""

    def __init__(self, statement: ast.stmt):
        self.statement = statement
        self.is_import = isinstance(statement, ast.Import | ast.ImportFrom)

    @functools.cached_property
    def content(self) -> tuple[str, frozenset[str], frozenset[tuple[str, str]]]:
        """Text without docstrings, names, pairs; worked out only for what is reached."""
        names, attributes = [], set()
        for node in ast.walk(self.statement):
            if isinstance(node, ast.Name):
                names.append(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                attributes.add((node.value, node.attr))
        qualified = {id(node) for node, _ in attributes}
        text = ast.unparse(_WithoutDocstrings().visit(self.statement))
        pairs = frozenset((node.id, attribute) for node, attribute in attributes)
        return text, frozenset(node.id for node in names if id(node) not in qualified), pairs


@dataclass(frozen=True)
class _Module:
    """The top level of one source file: what each name is bound to, what is imported, what else runs on import."""

    definitions: dict[str, list[_Statement]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    effects: list[_Statement] = field(default_factory=list)


def _source(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split(".")[1:])
    for candidate in (base.with_suffix(".py") if base != root else base / "__init__.py", base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


class _WithoutDocstrings(ast.NodeTransformer):
    """Drop docstrings, so that prose may be mended without a rerun; comments and layout are no part of the tree."""

    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _strip


def _called(decorator: ast.expr) -> str:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _names_bound(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [statement.name]
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name.split(".")[0] for alias in statement.names]
    return []


@functools.cache
def _read(path: Path, modified: int) -> _Module:
    """Parse one file; `modified` makes the cache notice an edit."""
    module = _Module()
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise VlmrankError(f"{path}: relative import; write `from {PACKAGE}.module import name`")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            module.imports.update({alias.asname or alias.name: (node.module, alias.name) for alias in node.names})
        elif isinstance(node, ast.Import):
            named = [alias for alias in node.names if alias.asname and alias.name.split(".")[0] == PACKAGE]
            module.imports.update({alias.asname: (alias.name, None) for alias in named})
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        names = _names_bound(statement)
        decorators = [_called(decorator) for decorator in getattr(statement, "decorator_list", [])]
        analysed = _Statement(statement)
        for name in names:
            module.definitions.setdefault(name, []).append(analysed)
        if not names or not PURE_DECORATORS.issuperset(decorators):
            module.effects.append(analysed)
    return module


def _closure(entries: tuple[str, ...], root: Path) -> dict[tuple[str, str], str]:
    """(module, name) -> text of everything that the entries reach; name is `*` for what runs on import."""
    found: dict[tuple[str, str], str] = {}
    pending: list[tuple[str, str | None]] = []

    def parse(name: str) -> _Module:
        path = _source(name, root)
        if path is None:
            raise VlmrankError(f"code_hash: there is no module {name}")
        return _read(path, path.stat().st_mtime_ns)

    def submodules(name: str) -> list[str]:
        folder = root.joinpath(*name.split(".")[1:])
        if not folder.is_dir():
            return []
        inside = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
        return [f"{name}.{stem}" for stem in inside + [path.parent.name for path in folder.glob("*/__init__.py")]]

    def is_module(name: str) -> bool:
        return _source(name, root) is not None

    def follow(name: str, module: _Module, statements: list[_Statement]) -> str:
        for statement in statements:
            _, names, attributes = statement.content
            for used in names | {used for used, _ in attributes}:
                if used not in module.imports and used in module.definitions:
                    pending.append((name, used))
            for used in names & module.imports.keys():
                target, attribute = module.imports[used]
                whole = f"{target}.{attribute}" if attribute else target
                pending.append((whole, None) if is_module(whole) else (target, attribute))
            for used, read in attributes:
                if used in module.imports:
                    target, attribute = module.imports[used]
                    whole = f"{target}.{attribute}" if attribute else target
                    pending.append((whole, read) if is_module(whole) else (target, attribute))
        return "\n".join(statement.content[0] for statement in statements)

    for entry in entries:
        name, _, attribute = entry.partition(":")
        pending.append((name, attribute or None))
    while pending:
        name, attribute = pending.pop()
        if name == PACKAGE and attribute and _source(f"{name}.{attribute}", root):
            name, attribute = f"{name}.{attribute}", None
        if name == PACKAGE:
            continue  # the version and the description of the package change no result
        module = parse(name)
        if (name, "*") not in found:
            found[name, "*"] = ""
            found[name, "*"] = follow(name, module, module.effects)
        if attribute is None:
            if (name, "whole") in found:
                continue
            found[name, "whole"] = ""
            pending.extend((name, defined) for defined in module.definitions)
            pending.extend((below, None) for below in submodules(name))
            folder = root.joinpath(*name.split(".")[1:])
            for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
                if path.is_file() and path.suffix not in (".py", ".pyc"):
                    found[name, str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif (name, attribute) in found:
            continue
        elif attribute in module.imports and all(known.is_import for known in module.definitions.get(attribute, [])):
            found[name, attribute] = "import"
            target, original = module.imports[attribute]
            pending.append((target, original))
        elif attribute in module.definitions:
            found[name, attribute] = ""
            found[name, attribute] = follow(name, module, module.definitions[attribute])
        elif is_module(f"{name}.{attribute}"):
            pending.append((f"{name}.{attribute}", None))
        elif f"{name}:{attribute}" in entries:
            raise VlmrankError(f"code_hash: {name} has no {attribute}")
        else:
            pending.append((name, None))  # made in a way that is not seen here: take the whole module
            found[name, attribute] = "dynamic"
    return found


def code_hash(*entries: str, root: Path = ROOT) -> str:
    """Hash the code that the entries reach within the package, without comments, layout and docstrings.

    Parameters
    ----------
    entries : `vlmrank.module:name` for a function and everything that it reaches; `vlmrank.module` for a whole module,
        and for a package all its files, templates included.
    root : folder of the package.

    Returns
    -------
    16 hexadecimal digits; equal exactly when no reached definition has changed. An edit of a function that is not
    reached changes nothing. Where it cannot be seen what is reached, the whole module counts.

    Raises
    ------
    VlmrankError : an entry does not exist.
    """
    found = _closure(entries, Path(root))
    content = json.dumps([[*key, found[key]] for key in sorted(found)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# --- content ---------------------------------------------------------------------------------------------------------


def content_identity(parts: Mapping[str, Any]) -> str:
    """SHA-256 of a mapping as canonical JSON, 64 hexadecimal digits; keys in any order give the same.

    Examples
    --------
    >>> content_identity({"a": 1, "b": 2}) == content_identity({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# Facts of a model card that decide what its towers compute.
MODEL_FACTS = ("weights_sha256", "config_sha256", "activation", "image_size", "embed_dim", "preprocess")
# Options that decide how a pair is computed but not what comes out.
FREE_OPTIONS = ("device", "batch", "datasets_per_job", "job_minutes")


def pair_identity(model: Mapping[str, Any], dataset: Mapping[str, Any], options: Mapping[str, Any], code: str) -> str:
    """Identity of a pair: weights, images, class names, templates, preprocessing, options and code.

    The names of the model and of the dataset and their places on disk are no part of it, nor is the device.
    """
    return content_identity(
        {
            "model": {name: model.get(name) for name in MODEL_FACTS},
            "architecture": None if model.get("config_sha256") else model.get("architecture"),
            "images": [[image["id"], image["sha256"]] for image in dataset["images"]],
            "classes": dataset.get("classes") or [],
            "templates": dataset.get("templates") or [],
            "options": {name: value for name, value in options.items() if name not in FREE_OPTIONS},
            "code": code,
        }
    )


def accuracy_identity(
    model: Mapping[str, Any], dataset: Mapping[str, Any], options: Mapping[str, Any], code: str
) -> str:
    """Identity of a measured accuracy: like a pair's, with the test images by path, size and time of change."""
    images = []
    for image in dataset.get("test") or []:
        facts = Path(image["path"]).stat() if Path(image["path"]).exists() else None
        images.append([image["id"], image["label"], *((facts.st_size, facts.st_mtime_ns) if facts else ())])
    return content_identity(
        {
            "model": {name: model.get(name) for name in MODEL_FACTS},
            "architecture": None if model.get("config_sha256") else model.get("architecture"),
            "images": images,
            "classes": dataset.get("classes") or [],
            "templates": dataset.get("templates") or [],
            "options": {name: value for name, value in options.items() if name not in FREE_OPTIONS},
            "code": code,
        }
    )
