"""The wheel carries the workflow: installed anywhere, it runs in a folder that is no clone."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from tiny_zoo import make_zoo
from workspace import PARTS, ROOT

pytestmark = pytest.mark.workflow


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


def test_a_folder_of_photographs_is_all_that_it_needs(installed, tmp_path):
    """`vlmrank rank` answers, and `snakemake` in the folder that it wrote goes on, without any source."""
    make_zoo(tmp_path, ["ViT-B-32--openai", "RN50--openai", "mine"], ["tools"])
    (tmp_path / "Snakefile").write_text("of somebody else")
    command = [
        "rank",
        "images/tools",
        "--classes",
        "cat,dog,ship",
        "--models",
        "zoo",
        "--published",
        "--cache",
        "cache",
    ]
    done = run(installed, tmp_path, sys.executable, "-c", f"from vlmrank.cli import main; main({command!r})")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 models" in done.stdout
    done = run(installed, tmp_path / "ranking", sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    jobs = {name: int(count) for name, count in re.findall(r"^\s*(\w+(?: \w+)*) +(\d+)\s*$", text, re.MULTILINE)}
    assert jobs["compute conductance"] == 3 and jobs["rank models"] == 1, text
    assert "No dataset has the role source" in text
    with (tmp_path / "ranking" / "config.yaml").open("a") as file:
        file.write("shortlist: {by: published, top: 1}\n")
    done = run(installed, tmp_path / "ranking", sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run")
    text = done.stdout + done.stderr
    assert done.returncode == 0 and re.search(r"compute conductance +1\b", text), text


def test_the_command_finds_the_schemas(installed, tmp_path):
    (tmp_path / "config.yaml").write_text("models: here.tsv\nmodles: there.tsv\n")
    done = run(installed, tmp_path, sys.executable, "-m", "vlmrank.cli.command_line", "size", "config.yaml")
    assert done.returncode == 2
    assert "modles" in done.stderr and "models" in done.stderr


def test_it_is_the_installed_library_that_runs(installed, tmp_path):
    code = "import vlmrank.workflow.folder as f; print(f.workflow_folder())"
    done = run(installed, tmp_path, sys.executable, "-c", code)
    assert done.stdout.strip() == str(installed / "vlmrank" / "_workflow")
