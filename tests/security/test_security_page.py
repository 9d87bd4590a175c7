"""docs/security.md states the limits that the code has, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from vlmrank import files
from vlmrank.datasets.decode import FORMATS
from vlmrank.files import size_of
from vlmrank.models.weights import BYTES_PER_PARAMETER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_the_limits_are_those_of_the_code():
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", PAGE.split("## Size limits")[1], re.M))
    assert rows["a model's configuration"] == size_of(files.MOST_CONFIG)
    assert rows["a sheet, list, table or vocabulary, unpacked"] == size_of(files.MOST_TEXT)
    assert rows["an image, also inside a tar"] == size_of(files.MOST_IMAGE)
    assert rows["an image, decoded"] == f"{2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels"
    assert rows["a header inside a tar"] == size_of(files.MOST_TAR_HEADER)
    assert rows["a model's weights"].startswith(size_of(files.MOST_WEIGHTS))
    assert f"{BYTES_PER_PARAMETER} bytes" in rows["a model's weights"]


def test_the_files_and_tests_that_it_names_exist():
    named = re.findall(r"`((?:tests|scripts)/[^`]+)`", PAGE)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_format_that_starts_a_program_is_not_among_those_that_are_opened():
    assert "EPS" not in FORMATS and "EPS" in PAGE
