"""`vlmrank size` and a dry run name the same number of jobs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vlmrank.cli import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.workflow


@pytest.mark.parametrize("changed", [(), ("evaluation={labelled: 4}", "accuracy={measure: false}")])
def test_size_and_dry_run_agree(tmp_path, capsys, monkeypatch, changed):
    for name in ("Snakefile", "config.yaml", "config", "rules", "schemas", "scripts", "report", "envs", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "own.yaml"
    config.write_text("".join(f"{line.replace('=', ': ', 1)}\n" for line in changed) or "{}\n")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--workflow-profile", "none"]
    command += ["--configfile", str(config)] if changed else []
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    )
    planned = int(re.search(r"^total\s+(\d+)$", done.stdout + done.stderr, re.M).group(1))
    assert main(["size", str(config if changed else "config.yaml")]) == 0
    assert int(re.search(r"jobs\s+(\d+), of which", capsys.readouterr().out).group(1)) == planned
