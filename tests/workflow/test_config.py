"""The configuration: defaults, and messages that a user can act on."""

import math
from pathlib import Path

import pytest
import yaml

from vlmrank.errors import VlmrankError
from vlmrank.workflow.config import check_config, read_schema, with_defaults

ROOT = Path(__file__).parents[2]
SCHEMA = read_schema(ROOT / "schemas" / "config.schema.yaml")


def keys(schema, prefix=()):
    for name, inner in schema.get("properties", {}).items():
        yield (*prefix, name), inner
        yield from keys(inner, (*prefix, name))
        if isinstance(inner.get("items"), dict):
            yield from keys(inner["items"], (*prefix, name))


def test_every_key_has_a_description_and_a_default():
    required = {("accuracy", "tables", "path")}
    for path, inner in keys(SCHEMA):
        assert inner.get("description", "").strip(), path
        assert "default" in inner or path in required, path


def test_no_block_takes_unknown_keys():
    for path, inner in [((), SCHEMA), *keys(SCHEMA)]:
        if "properties" in inner:
            assert inner["additionalProperties"] is False, path


def test_the_shipped_config_states_exactly_the_defaults():
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert shipped == with_defaults({}, SCHEMA)
    assert check_config(shipped, SCHEMA) == shipped


def test_every_shipped_key_has_a_comment():
    for line in (ROOT / "config.yaml").read_text().splitlines():
        if line.startswith("  ") and ":" in line:
            assert "#" in line, line


def test_an_empty_config_is_filled_in_and_the_input_is_left_alone():
    given = {"conductance": {"points": 8}}
    filled = check_config(given, SCHEMA)
    assert filled["conductance"]["points"] == 8 and filled["conductance"]["baseline"] == "black"
    assert given == {"conductance": {"points": 8}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"conductance": {"pionts": 8}}, ["conductance.pionts", "no such key", "Did you mean 'points'?"]),
        ({"modles": "x"}, ["modles", "Did you mean 'models'?"]),
        ({"conductance": {"baseline": "blak"}}, ["conductance.baseline", "found blak", "black, mean or blur"]),
        ({"conductance": {"points": "many"}}, ["conductance.points", "found many", "a whole number from 2 to 4096"]),
        ({"images": {"per_dataset": 1}}, ["images.per_dataset", "found 1", "from 2 to 4096"]),
        ({"images": 16}, ["images", "found 16", "a block of keys"]),
        ({"ranking": {"kappa": 0}}, ["ranking.kappa", "a number above 0"]),
        ({"ranking": {"fuse": math.nan}}, ["ranking.fuse", "found nan", "a number of at least 0"]),
        ({"ranking": {"kappa": math.inf}}, ["ranking.kappa", "found inf", "a number above 0"]),
        ({"conductance": {"tolerance": math.nan}}, ["conductance.tolerance", "found nan"]),
        ({"alignment": {"rho": "infinite"}}, ["alignment.rho", "a number of at least 0 or inf"]),
        ({"accuracy": {"tables": [{"format": "own"}]}}, ["accuracy.tables.0.path", "is missing"]),
        ({"results": ""}, ["results", "found nothing", "a text that is not empty"]),
    ],
)
def test_a_mistake_is_told_in_words(tmp_path, values, words):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(VlmrankError) as error:
        check_config(values, SCHEMA, files=["config.yaml", file])
    for word in [str(file), *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("rho", ["inf", math.inf, 0])
def test_only_rho_may_be_infinite(rho):
    assert check_config({"alignment": {"rho": rho}}, SCHEMA)["alignment"]["rho"] == rho


def test_all_mistakes_are_told_at_once_and_the_file_is_the_one_that_holds_the_key(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("sed: 1\nseed: 0\n")
    second.write_text("seed: -1\n")
    with pytest.raises(VlmrankError) as error:
        check_config({"sed": 1, "seed": -1, "store": 3}, SCHEMA, files=[first, second])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert sum(line.startswith(f"{first}: sed") for line in lines) == 1
    assert sum(line.startswith(f"{second}: seed") for line in lines) == 1
    assert sum(line.startswith("--config: store") for line in lines) == 1
