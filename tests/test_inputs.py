"""Every input of the table in `input_cases.py`, which docs/inputs.md is written from."""

from pathlib import Path

import input_cases
import pytest


@pytest.mark.parametrize("found", input_cases.CASES, ids=lambda found: f"{found.section}: {found.given}"[:90])
def test_what_comes_of_an_input(found, tmp_path):
    told = input_cases.outcome(found, tmp_path)
    assert input_cases.says(told, found.says), told


def test_the_page_is_written_from_the_table():
    page = Path(__file__).parent.parent / "docs" / "inputs.md"
    assert page.read_text(encoding="utf-8") == input_cases.page(), "python tests/input_cases.py > docs/inputs.md"


def test_no_two_rows_are_one():
    keys = [(found.section, found.given) for found in input_cases.CASES]
    assert len(set(keys)) == len(keys)


def test_every_row_is_on_the_page():
    assert {found.section for found in input_cases.CASES} == set(input_cases.SECTIONS)
