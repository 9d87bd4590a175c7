"""The wheel carries the workflow: installed anywhere, it runs in a folder that is no clone."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from tiny_zoo import make_zoo
from workspace import PARTS, ROOT, Workspace

pytestmark = pytest.mark.workflow
SNAKEFILE = """
from vlmrank.workflow.folder import workflow_folder


include: str(workflow_folder() / "Snakefile")


rule everything:
    default_target: True
    input:
        rules.all.input,
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what pip installs of the wheel, without its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in (*PARTS, "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info"))
        else:
            shutil.copy(place, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    options = ["--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *options, "--wheel-dir", folder / "dist", source], check=True, timeout=300)
    (wheel,) = (folder / "dist").glob("*.whl")
    shutil.rmtree(source)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, folder, *command):
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    environment.pop("VLMRANK_RUN_LOG", None)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_folder_with_sheets_and_three_lines_runs_it(installed, tmp_path):
    work = object.__new__(Workspace)
    work.folder = tmp_path
    make_zoo(tmp_path, ["A--one", "A--two"], ["cats", "dogs", "tools"])
    work.write("Snakefile", SNAKEFILE)
    config = {"models": "config/models.tsv", "datasets": "config/datasets.tsv", "images": {"per_dataset": 4}}
    work.write("config.yaml", yaml.safe_dump(config))
    done = run(installed, tmp_path, sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rank_models" in done.stdout + done.stderr


def test_the_command_finds_the_schemas(installed, tmp_path):
    (tmp_path / "config.yaml").write_text("models: here.tsv\nmodles: there.tsv\n")
    done = run(installed, tmp_path, sys.executable, "-m", "vlmrank.cli.command_line", "size", "config.yaml")
    assert done.returncode == 2
    assert "modles" in done.stderr and "models" in done.stderr


def test_it_is_the_installed_library_that_runs(installed, tmp_path):
    code = "import vlmrank.workflow.folder as f; print(f.workflow_folder())"
    done = run(installed, tmp_path, sys.executable, "-c", code)
    assert done.stdout.strip() == str(installed / "vlmrank" / "_workflow")
