"""Every command line of docs/cluster.md runs as it stands; the tools of a cluster are stood in for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from workspace import Workspace

from vlmrank.store import Pair, ResultStore, write_pair

pytestmark = pytest.mark.workflow
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
BEGIN = ("snakemake", "vlmrank", "squeue", "python", "rm", "mkdir", "git", "tmux", "$EDITOR")
CONSOLE = re.compile(r"```console\n(.*?)```", re.S)
BLOCKS = [line[2:] for line in "".join(CONSOLE.findall(PAGE)).splitlines() if line.startswith("$ ")]
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.S))
INLINE = [span for span in SPANS if span.split()[0] in BEGIN and " " in span]
# What a line cannot have here: a network, hours, or a place that is this cluster's.
INSTEAD = (
    ("git clone <this repository> && cd vlmrank", "git clone repository"),
    ("python3 -m venv .venv && .venv/bin/pip install -e . && . .venv/bin/activate", "test -f pyproject.toml"),
    ("/project/group", "group"),
    ("<model>/<dataset>", "m/d"),
    ("benchmarks/dag.py", "benchmarks/dag.py --models 1 --datasets 2 --repeats 1"),
    ("python benchmarks/amortisation.py", "python benchmarks/amortisation.py --help"),
    ("size --formulas", "size config.yaml --formulas"),
)
STOOD_IN = {
    "git": "exit 0",
    "tmux": 'test "$1" = new && test "$4" = "snakemake --profile slurm"',
    "editor": "exit 0",
    "squeue": 'test "$1" = --me && echo "41 vlmrank_a1b2" && echo "42 other"',
    "scancel": 'echo "cancelled $*"; test "$*" = 41',
    "chgrp": 'test "$1" = ourgroup',
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A clone with a pair of results, as its first user has it."""
    work = Workspace(tmp_path_factory.mktemp("clone") / "vlmrank")
    (work.folder / "slurm").symlink_to("profiles/slurm")
    for name in ("benchmarks", "pyproject.toml"):
        (work.folder / name).symlink_to(ROOT / name)
    (work.folder / "group").mkdir()
    for name, script in STOOD_IN.items():
        tool = work.write(f"bin/{name}", f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    return work


@pytest.fixture(autouse=True)
def results(work):
    facts = {"model": "m", "dataset": "d", "status": "ok", "identity": "ab" * 32}
    path = work.folder / "results/conductance/m/d.h5"
    write_pair(path, Pair(score=np.ones((1, 2)), attributes=facts))
    ResultStore(work.folder / "results/store").publish("ab" * 32, path)


def test_the_page_has_command_lines():
    assert len(BLOCKS) > 10 and len(INLINE) > 4


def test_the_page_holds_the_sizes_that_the_benchmark_prints():
    command = [sys.executable, ROOT / "benchmarks/run_sizes.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout in PAGE


@pytest.mark.parametrize("line", [*BLOCKS, *INLINE])
def test_a_command_line_of_the_page_runs(work, line):
    for given, here in INSTEAD:
        line = line.replace(given, here)
    if line.startswith("snakemake") and " -n" not in line:
        line += " -n"
    tools = f"{work.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools, "EDITOR": "editor", "PYTHONPATH": str(work.folder / "scripts")}
    environment.pop("VLMRANK_RUN_LOG", None)
    command = ["bash", "-euo", "pipefail", "-c", line]
    done = subprocess.run(command, cwd=work.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
