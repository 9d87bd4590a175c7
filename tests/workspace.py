"""A copy of the workflow in a temporary folder, to run, edit and break."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("Snakefile", "config.yaml", "config", "rules", "scripts", "schemas", "envs", "report", "profiles")


def heed_signals() -> None:
    """For `preexec_fn`: what a shell starts in the background ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Workspace:
    """A working directory with its own copy of everything that a clone has."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        skipped = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in PARTS:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=skipped)
            elif source.exists():
                shutil.copy(source, folder / name)

    def write(self, name: str, text: str) -> Path:
        """Write a file below the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def configure(self, **values) -> None:
        """Replace keys of config.yaml."""
        path = self.folder / "config.yaml"
        content = yaml.safe_load(path.read_text())
        for name, value in values.items():
            content[name] = {**content[name], **value} if isinstance(content.get(name), dict) else value
        path.write_text(yaml.safe_dump(content))

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file of the copy."""
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new))

    def snakemake(self, *arguments: str, cores: int = 1, profile: str = "none") -> subprocess.CompletedProcess:
        """Run Snakemake there, by default without any profile, and return what it printed."""
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--workflow-profile", profile]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PYTHONPATH"] = str(self.folder / "scripts")  # and not an installed copy of another tree
        environment.pop("VLMRANK_RUN_LOG", None)
        return subprocess.run(
            [*command, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Rule -> number of jobs that a dry run lists; without the sum and `all`."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        text = done.stdout + done.stderr
        if "Nothing to be done" in text:
            return {}
        table = text.split("Job stats:")[1].split("total")[0]
        counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
        counts.pop("all", None)
        return counts

    def outputs(self, folder: str = "results") -> list[str]:
        """Files below a folder, relative to it, sorted."""
        base = self.folder / folder
        return sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())
