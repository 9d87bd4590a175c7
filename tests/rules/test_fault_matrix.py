"""Each fault of tests/fault_matrix.py really happens to a small run; afterwards the ranking is that of a calm one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cluster import wait_for
from fault_matrix import ROWS, table
from tiny_zoo import make_zoo
from workspace import Workspace, heed_signals

from vlmrank.store import read_pair

pytestmark = pytest.mark.workflow
# Minutes of many processes: they run where they are asked for (CONTRIBUTING.md).
slow = pytest.mark.skipif(not os.environ.get("VLMRANK_SLOW_TESTS"), reason="set VLMRANK_SLOW_TESTS=1 (CONTRIBUTING.md)")
ROOT = Path(__file__).resolve().parents[2]
MODELS, DATASETS = ("A--one", "B--two"), ("cats", "tools")
RANKINGS = ("results/ranking/tools.csv", "results/ranking/tools.weights.csv")
PAIRS = [f"results/conductance/{model}/{dataset}.h5" for model in MODELS for dataset in DATASETS]
# profiles/default without its progress bars
PROFILE = ("--keep-going", "--rerun-incomplete", "--nolock", "--keep-incomplete")
SEEN: set[str] = set()


def survived(*faults: str) -> None:
    """Note that rows of the matrix were seen to hold."""
    assert set(faults) <= {fault for fault, _, _ in ROWS}
    SEEN.update(faults)


class Run(Workspace):
    """A working directory with a store beside its results, and a folder that says which faults its jobs meet."""

    def __init__(self, folder: Path, template: "Run | None" = None):
        self.folder, self.faults = folder, folder / "faults"
        if template is None:
            super().__init__(folder)
            self.faults.mkdir()
        else:
            shutil.copytree(template.folder, folder, symlinks=True)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def command(self, *arguments: str) -> list[str]:
        options = ("--cores", "1", "--workflow-profile", "none", *PROFILE)
        return [sys.executable, "-m", "snakemake", RANKINGS[0], *options, *arguments]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "VLMRANK_RUN_LOG"}
        places = f"{ROOT / 'tests/injected'}:{self / 'scripts'}"
        injected = {"PYTHONPATH": places, "VLMRANK_FAULTS": str(self.faults)}
        return {**kept, **injected, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *arguments: str) -> subprocess.Popen:
        output = (self / "output.txt").open("w")
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=output,
            stderr=output,
            preexec_fn=heed_signals,
            process_group=0,
        )
        (self.faults / "head.pid").write_text(str(process.pid))
        return process

    def run(self, expected: int = 0, *arguments: str) -> str:
        """Run the workflow with the literal command, and return what it printed."""
        process = self.start(*arguments)
        process.wait(600)
        printed = (self / "output.txt").read_text()
        assert process.returncode == expected, printed
        return printed

    def jobs(self) -> Counter:
        """Rules that a dry run would run."""
        found = Workspace.jobs(self, RANKINGS[0])
        return Counter(found)

    def meet(self, name: str, *faults: str) -> None:
        (self.faults / f"{name}.json").write_text(json.dumps(faults))

    def computed(self) -> Counter:
        """Result -> how often it was computed, since this was last asked."""
        path = self.faults / "computed.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return Counter(lines)

    def entries(self, suffix: str = ".h5") -> list[Path]:
        return sorted((self / "shared").glob(f"??/*{suffix}"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A zoo whose cards are written, and nothing computed."""
    run = Run(tmp_path_factory.mktemp("prepared") / "run")
    make_zoo(run.folder, list(MODELS), list(DATASETS))
    rows = [f"{model},{DATASETS[0]},0.{number}5,100" for number, model in enumerate(MODELS, 1)]
    run.write("config/known.csv", "\n".join(["model,dataset,acc1,n", *rows]) + "\n")
    run.configure(
        demo={"build": False},
        images={"per_dataset": 4},
        conductance={"points": 4, "device": "cpu"},
        ranking={"bootstrap": 100, "score": "fused"},
        evaluation={"methods": ["fused"], "bootstrap": 0},
        accuracy={"measure": False, "tables": [{"path": "config/known.csv", "format": "own"}]},
        store="shared",
    )
    run.run(0, "--until", "fetch_model", "prepare_dataset")
    return run


@pytest.fixture(scope="module")
def calm(prepared, tmp_path_factory):
    """A run that nothing happened to."""
    run = Run(tmp_path_factory.mktemp("calm") / "run", prepared)
    run.run()
    assert run.computed().total() == len(PAIRS)
    return run


@pytest.fixture
def finished(calm, tmp_path):
    return Run(tmp_path / "run", calm)


@pytest.fixture
def fresh(prepared, tmp_path):
    return Run(tmp_path / "run", prepared)


def assert_as_calm(run: Run, calm: Run) -> None:
    for name in RANKINGS:
        assert (run / name).read_bytes() == (calm / name).read_bytes()
    assert not list(run.folder.rglob(".partial*"))
    assert [path.name for path in (run / "shared/leases").iterdir()] == []
    assert run.jobs() == {}


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage(paths: list[Path]) -> None:
    """Truncate, fill with garbage, empty and flip a bit, in turn."""
    for number, path in enumerate(paths):
        path.chmod(0o644)
        size = path.stat().st_size
        if number % 4 == 3:
            flip(path)
        else:
            path.write_bytes([path.read_bytes()[: size // 2], b"garbage" * (size // 7), b""][number % 4])


@slow
def test_what_happens_to_jobs(fresh, calm):
    fresh.meet(MODELS[0], "SIGKILL", "power", "power", "SIGTERM")
    fresh.meet(MODELS[1], "full shared/", "full results/conductance", "SIGHUP", "SIGINT")
    fresh.meet("read", f"conductance/{MODELS[1]}/tools.h5")
    printed = fresh.run(1)
    assert printed.count("No space left on device; make room and run again") == 2
    assert "cannot be read now (Input/output error); run again" in printed
    computed = fresh.computed()
    assert len(computed) == len(PAIRS) and computed.total() <= len(PAIRS) + 2
    fresh.run()
    assert fresh.computed() == {}
    assert_as_calm(fresh, calm)
    survived("SIGKILL of a job", "SIGTERM, SIGHUP or SIGINT to a job", "power lost twice during a pair")
    survived("store full (ENOSPC)", "results folder full (ENOSPC)", "a result cannot be read for a moment (EIO)")
    survived("no file locks (ENOLCK), no hard links (EPERM)")


@slow
def test_what_happens_to_the_head(fresh, calm):
    for kind in ("SIGINT", "SIGHUP"):
        fresh.meet("head", kind)
        fresh.run(1)
        assert fresh.computed() == {}, kind
        assert not list((fresh / ".snakemake/vlmrank").glob("*.lease")), kind
        assert list((fresh / "shared/leases").glob("*.lease")) == [], kind
    fresh.meet("head", "SIGTERM")
    fresh.run(1)
    computed = fresh.computed()
    assert computed.total() == len(DATASETS), "those of the job that ran, which was waited for"
    assert not (fresh / "results/alignment").exists(), "no new job"
    fresh.meet("head", "SIGKILL")
    assert fresh.start().wait(600) == -signal.SIGKILL
    process = fresh.start()
    output = fresh / "output.txt"
    wait_for(lambda: "waiting for another process to compute it" in output.read_text(), 300)
    (fresh.faults / "go").touch()
    assert process.wait(600) == 0, output.read_text()
    computed += fresh.computed()
    assert len(computed) == computed.total() == len(PAIRS), computed
    assert_as_calm(fresh, calm)
    survived("Ctrl-C or a closed terminal (SIGINT or SIGHUP to the head and its jobs)")
    survived("SIGTERM to the head", "SIGKILL of the head")


@slow
def test_damaged_results(finished, calm):
    damage([finished / name for name in PAIRS])
    os.utime(finished / PAIRS[0], (0, 0))
    damage([finished / f"results/alignment/{MODELS[0]}.h5", finished / f"results/dcd/{MODELS[1]}.h5"])
    card = finished / f"results/models/{MODELS[1]}.json"
    card.write_text(card.read_text().replace('"ok"', '"OK"'))
    assert finished.jobs()["compute_conductance"] == len(MODELS)
    printed = finished.run()
    assert printed.count("is made anew") >= 5 and "other result files are made anew" in printed
    assert finished.computed() == {}
    assert_as_calm(finished, calm)
    survived("a pair in results truncated, garbage, empty, or with a flipped bit")
    survived("the same, with the time it had before")
    survived("an alignment or divergence damaged, a card changed")


@slow
def test_links_to_nothing_a_lost_store_and_wrong_clocks(finished, calm):
    shutil.rmtree(finished / "shared")
    assert finished.jobs() == {}
    (finished / PAIRS[0]).unlink()
    (finished / PAIRS[0]).symlink_to("nothing")
    (finished / f"results/alignment/{MODELS[1]}.h5").unlink()
    later = time.time() + 3600
    for path in (finished / f"results/conductance/{MODELS[1]}").iterdir():
        os.utime(path, (later, later))
    finished.run()
    assert finished.computed().total() <= 2, "the lost pair, and the one that is put back"
    for path in finished.folder.glob("results/dcd/*"):
        os.utime(path, (later - 7200, later - 7200))
    finished.run()
    assert finished.computed() == {}
    for path in (finished / "results").rglob("*"):
        os.utime(path, (later - 3600, later - 3600))
    assert_as_calm(finished, calm)
    survived("a result that is a link to nothing, or gone", "store deleted", "files an hour ahead or behind")


@slow
def test_a_damaged_store_and_no_results(finished, calm):
    damage(finished.entries())
    for name in ("conductance", "alignment", "dcd", "evidence", "evaluation", "ranking"):
        shutil.rmtree(finished / "results" / name)
    printed = finished.run()
    assert printed.count("dropped from the store, to be computed again") == len(PAIRS)
    assert finished.computed().total() == len(PAIRS)
    shutil.rmtree(finished / "results")
    finished.run()
    assert finished.computed() == {}
    assert_as_calm(finished, calm)
    survived("an entry of the store truncated, garbage, empty, or with a flipped bit", "results deleted")


@slow
def test_two_runs_on_one_store(prepared, calm, tmp_path):
    runs = [Run(tmp_path / name, prepared) for name in ("ada", "bob")]
    for run in runs:
        run.configure(store=str(tmp_path / "ada/shared"))
    runs[1].configure(conductance={"points": 4, "device": "cpu", "datasets_per_job": 1})
    processes = [run.start() for run in runs]
    assert [process.wait(600) for process in processes] == [0, 0]
    computed = runs[0].computed() + runs[1].computed()
    assert len(computed) == computed.total() == len(PAIRS)
    assert_as_calm(runs[0], calm)
    assert (runs[1] / RANKINGS[0]).read_bytes() == (calm / RANKINGS[0]).read_bytes()
    survived("two runs on one store at once")


@slow
def test_neither_cores_nor_datasets_per_job_change_a_byte(prepared, calm, tmp_path):
    """docs/output.md, "Reproducibility": every array that the ranking comes from."""
    run = Run(tmp_path / "run", prepared)
    run.configure(conductance={"points": 4, "device": "cpu", "datasets_per_job": 1})
    run.run(0, "--cores", "2", "--until", "compute_conductance", "compute_conductance_1")
    for name in PAIRS:
        ours, theirs = read_pair(run / name), read_pair(calm / name)
        for path, values in theirs.blocks.items():
            np.testing.assert_array_equal(ours.blocks[path], values)
        np.testing.assert_array_equal(ours.logits, theirs.logits)


def test_the_page_holds_the_matrix():
    assert table() in (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


@slow
def test_every_row_was_tried():
    if len(SEEN) < len(ROWS):
        pytest.skip("needs all tests of this module in one process")
    assert {fault for fault, _, _ in ROWS} == SEEN
