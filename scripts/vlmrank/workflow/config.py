"""Check a configuration against its schema with readable messages, and fill in defaults."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from vlmrank.errors import VlmrankError
from vlmrank.text import nearest
from vlmrank.textfile import read_text

MISSING = "is missing"


def _is_number(_checker: Any, value: Any) -> bool:
    """Whether a value is a finite number: nan passes every comparison, and infinity must be allowed explicitly."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number),
)


@cache
def read_schema(path: str | Path) -> dict[str, Any]:
    """Read a JSON schema written as YAML."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def with_defaults(values: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of `values` with the schema's default for each absent key, at every level.

    Keys are in the order of the schema, so that equal settings look equal to Snakemake.

    Examples
    --------
    >>> with_defaults({"b": 1}, {"properties": {"a": {"default": 0}, "b": {"default": 2}}})
    {'a': 0, 'b': 1}
    """
    known = schema.get("properties", {})
    filled = {}
    for name, inner in known.items():
        if name not in values and "default" not in inner:
            continue
        value = copy.deepcopy(values[name] if name in values else inner["default"])
        if isinstance(value, dict) and "properties" in inner:
            value = with_defaults(value, inner)
        if isinstance(value, list) and isinstance(inner.get("items"), dict):
            value = [with_defaults(item, inner["items"]) if isinstance(item, dict) else item for item in value]
        filled[name] = value
    return filled | {name: copy.deepcopy(value) for name, value in values.items() if name not in known}


def describe_allowed(schema: Mapping[str, Any]) -> str:
    """What a schema allows, in words: `a whole number from 2 to 4096`.

    Examples
    --------
    >>> describe_allowed({"type": "integer", "minimum": 2})
    'a whole number of at least 2'
    >>> describe_allowed({"enum": ["black", "mean"]})
    'black or mean'
    """
    if "enum" in schema:
        return _either(list(dict.fromkeys(_show(value) for value in schema["enum"])))
    if "const" in schema:
        return _show(schema["const"])
    if "anyOf" in schema:
        return _either([describe_allowed(option) for option in schema["anyOf"]])
    types = schema.get("type", "a value")
    words = {
        "integer": "a whole number",
        "number": "a number",
        "string": "a text",
        "boolean": "true or false",
        "null": "null",
        "object": "a block of keys",
        "array": "a list",
    }
    allowed = _either([words.get(name, name) for name in ([types] if isinstance(types, str) else types)])
    low, high, above = schema.get("minimum"), schema.get("maximum"), schema.get("exclusiveMinimum")
    if low is not None and high is not None:
        allowed += f" from {low} to {high}"
    elif low is not None:
        allowed += f" of at least {low}"
    elif above is not None:
        allowed += f" above {above}"
    if "pattern" in schema and "A-Za-z0-9" in schema["pattern"]:
        allowed = "letters, digits and . _ + - only, a letter or digit first, at most 200"
    elif schema.get("minLength"):
        allowed = "a text that is not empty"
    return allowed


def problems(values: Mapping[str, Any], schema: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """The problems of `values`, in order: (path of keys, what was found and what to do)."""
    found = []
    validator = _Validator(dict(schema))
    for error in sorted(validator.iter_errors(dict(values)), key=lambda error: [str(part) for part in error.path]):
        where = tuple(str(part) for part in error.absolute_path)
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            for name in error.instance:
                if name not in known:
                    hint = nearest(str(name), known) or f"Known here: {', '.join(known)}."
                    found.append(((*where, str(name)), f"there is no such key. {hint} Correct it or take it out."))
        elif error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    found.append(((*where, name), f"{MISSING}. {_describe(error.schema, name)}".strip()))
        else:
            allowed = describe_allowed(error.schema)
            hint = nearest(str(error.instance), map(str, error.schema.get("enum", ())))
            found.append((where, f"found {_short(_show(error.instance))}, allowed is {allowed}. {hint}".strip()))
    return found


def check_config(
    config: Mapping[str, Any], schema: Mapping[str, Any], *, files: Sequence[str | Path] = ()
) -> dict[str, Any]:
    """Check a configuration, and return it with every default filled in.

    Parameters
    ----------
    config : what the user wrote.
    schema : JSON schema with `description` and `default` for each key.
    files : the files that `config` was read from, so that a message can name the one that holds the key.

    Raises
    ------
    VlmrankError : an unknown or duplicate key, or a value that is not allowed; one line per problem.
    """
    for path in files:
        _refuse_twice(path)
    wrong = problems(config, schema)
    if wrong:
        contents = [(str(path), yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}) for path in files]
        lines = []
        for where, text in wrong:
            held = where[:-1] if text.startswith(MISSING) else where
            lines.append(f"{_holder(held, contents)}: {'.'.join(where) or 'the whole file'}: {text}")
        raise VlmrankError("\n".join(lines))
    return with_defaults(config, schema)


def _refuse_twice(path: str | Path) -> None:
    """Refuse a duplicate key, of which YAML silently keeps the last."""
    try:
        root = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return  # Snakemake has read it as JSON
    pending = [root] if root is not None else []
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if lines.setdefault(str(key.value), line) != line:
                    raise VlmrankError(
                        f"{path}, line {line}: the key {key.value} is on line {lines[key.value]} already"
                    )
                pending.append(value)


def _holder(where: Sequence[str], contents: Sequence[tuple[str, Any]]) -> str:
    """The last file that has the key or, for a missing key, its parent block."""
    for path, content in reversed(contents):
        node = content
        for part in where:
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict) and part in node:
                node = node[part]
            else:
                break
        else:
            return path
    return "configuration" if not contents else "--config"


def _describe(schema: Mapping[str, Any], name: str) -> str:
    return schema.get("properties", {}).get(name, {}).get("description", "")


def _either(options: Sequence[str]) -> str:
    return " or ".join([", ".join(options[:-1]), options[-1]] if len(options) > 1 else options)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:80]}... ({len(text)} characters)"


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if not isinstance(value, str) or value else "nothing"
