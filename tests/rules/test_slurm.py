"""`snakemake --profile slurm` on a real scheduler: where jobs run, and what is left after each fault."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cluster
import pandas as pd
import pytest
from cluster import Jobs, tool, wait_for
from tiny_zoo import make_zoo
from workspace import Workspace, heed_signals

from vlmrank.store import read_pair

pytestmark = pytest.mark.slurm
slow = pytest.mark.skipif(not os.environ.get("VLMRANK_SLOW_TESTS"), reason="set VLMRANK_SLOW_TESTS=1 (CONTRIBUTING.md)")
DATASETS = ("cats", "dogs", "tools")
# What CI changes in the shipped profile: it looks at jobs sooner (faults/ too), and waits for no network file system.
SOONER = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
FAULTS = Path(__file__).resolve().parents[1] / "faults"


@pytest.fixture(scope="module", autouse=True)
def scheduler():
    with cluster.alone():
        reason = cluster.start()
        if reason:
            pytest.skip(reason)
        yield


@pytest.fixture
def heads():
    """The runs that a test starts; whatever happens in it, neither they nor their jobs outlive it."""
    started = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
    names = "drained,draining"
    for node in tool("sinfo", "--noheader", "--format=%n", f"--states={names}").split():
        tool("scontrol", "update", f"nodename={node}", "state=resume")
    for job in tool("squeue", "--noheader", "--format=%i").split():
        tool("scancel", job)


class Cluster(Workspace):
    """A working directory from which runs are started with the literal command."""

    def __init__(self, folder: Path, heads: list[subprocess.Popen]):
        super().__init__(folder)
        self.heads = heads
        (folder / "slurm").symlink_to("profiles/slurm")

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start `snakemake --profile slurm` and do not wait for it."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PYTHONPATH"] = f"{FAULTS}:{self.folder / 'scripts'}"
        environment.pop("VLMRANK_RUN_LOG", None)
        self.output = self.folder / "head.log"
        with self.output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--profile", "slurm", *SOONER, *arguments],
                cwd=self.folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=heed_signals,
            )
        self.heads.append(process)
        return process

    def finish(self, process: subprocess.Popen, seconds: float = 1500) -> int:
        """Wait for a run and return its exit status; one that does not end is killed."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"the run did not end in {seconds} s:\n{self.output.read_text()[-3000:]}")

    def pairs(self) -> pd.DataFrame:
        table = pd.read_csv(self.folder / "results/pairs.csv", keep_default_na=False)
        return table[table.stage == "conductance"]

    def halves(self) -> list[Path]:
        """Files that a dead writer left."""
        return [path for path in (self.folder / "results").rglob(".partial*") if path.parent.name != "leases"]

    def pair_files(self) -> dict[Path, tuple[int, int]]:
        """Finished pairs in the result store -> inode and size: what changes if one is written again."""
        found = sorted((self.folder / "results/store").glob("??/*.h5"))
        return {path: (path.stat().st_ino, path.stat().st_size) for path in found}

    def computed(self) -> list[str]:
        return sorted((self.folder / "computed.txt").read_text().splitlines())


def small(work: Workspace, **values) -> None:
    """A run that takes no time for its numbers."""
    defaults = {
        "images": {"per_dataset": 4},
        "conductance": {"points": 4, "device": "cpu"},
        "ranking": {"bootstrap": 100},
        "evaluation": {"bootstrap": 100},
    }
    work.configure(**{**defaults, **values})


def a_zoo(folder: Path, heads: list[subprocess.Popen], *models: str) -> Cluster:
    """A working directory with a tiny zoo whose accuracies are known from a table."""
    work = Cluster(folder, heads)
    make_zoo(work.folder, list(models), list(DATASETS))
    rows = [f"{model},{name},0.{number}5,100" for number, model in enumerate(models, 1) for name in DATASETS[:-1]]
    work.write("config/known.csv", "\n".join(["model,dataset,acc1,n", *rows]) + "\n")
    small(work, accuracy={"measure": False, "tables": [{"path": "config/known.csv", "format": "own"}]})
    return work


@slow
def test_jobs_run_where_they_belong(tmp_path, heads):
    models = ("calm--one", "calm--two")
    work = a_zoo(tmp_path / "calm", heads, *models)
    small(work, accuracy={"measure": True, "tables": []})
    node = tool("sinfo", "--noheader", "--format=%n").split()[0]
    tool("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    # `device: cpu`, for the GPUs are none; the profile asks for them all the same, as one of a site may.
    # One of the two rules does so as profiles/README.md says for sites that want --gres.
    process = work.start(
        "--set-resources", "compute_conductance:gpu=1", "measure_accuracy:gpu=0", "measure_accuracy:gres=gpu:1"
    )

    # A drained node: jobs wait in the queue, nothing fails, and all goes on once it is back.
    wait_for(lambda: len(Jobs.of(work.folder)) == 4, 400)
    assert {job["JobState"] for job in Jobs.of(work.folder)} == {"PENDING"}
    tool("scontrol", "update", f"nodename={node}", "state=resume")
    assert work.finish(process) == 0, work.output.read_text()[-3000:]

    jobs = Jobs.of(work.folder)
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    on_gpu = Jobs([*jobs.of_rule("compute_conductance"), *jobs.of_rule("measure_accuracy")])
    assert len(on_gpu) == 2 * len(models)
    for rule, how in (("compute_conductance", "TresPerJob"), ("measure_accuracy", "TresPerNode")):
        assert {(job["Partition"], job.get(how)) for job in jobs.of_rule(rule)} == {("gpu", "gres:gpu:1")}, rule
    assert on_gpu.most_at_once <= 2
    others = [job for job in jobs if job not in on_gpu]
    assert {(job["Partition"], job.get("TresPerJob", "")) for job in others} == {("cpu", "")}
    gathers = jobs.of_rule("gather")
    assert len(gathers) == len(models) + 1 and len(jobs.of_rule("relate_classes")) == 1
    assert len(others) == len(gathers) + 1
    for local in ("fetch_model", "prepare_dataset", "gather_accuracy", "gather_pairs", "check_pairs"):
        assert not jobs.of_rule(local)
    assert (work.folder / "results/report.html").exists()
    assert "take " in work.output.read_text()


@slow
def test_jobs_that_die_are_tried_again_and_a_model_that_kills_is_named(tmp_path, heads):
    work = a_zoo(tmp_path / "faults", heads, "killer--one", "hungry--one", "slow--one")
    minutes = "attempt if wildcards.model.startswith('slow') else 20"
    process = work.start("--set-resources", f"compute_conductance:runtime={minutes}")

    # What has run out of memory is tried again with more, and that job is cancelled.
    mark = work.folder / "hungry--one.tools.mark"
    wait_for(mark.exists, 400)
    (again,) = [job for job in Jobs.of(work.folder).running() if "hungry" in job["Comment"]]
    tool("scancel", again["JobId"])
    assert work.finish(process) == 1, work.output.read_text()[-3000:]

    jobs = {
        kind: [job for job in Jobs.of(work.folder).of_rule("compute_conductance") if kind in job["Comment"]]
        for kind in ("killer", "hungry", "slow")
    }
    assert [job["JobState"] for job in jobs["slow"]] == ["TIMEOUT", "COMPLETED"]
    assert [job["TimeLimit"] for job in jobs["slow"]] == ["00:01:00", "00:02:00"]
    assert [job["JobState"] for job in jobs["hungry"]] == ["FAILED", "CANCELLED", "COMPLETED"]
    first, *others = [int(job["MinMemoryNode"].rstrip("M")) for job in jobs["hungry"]]
    assert others == [2 * first, 3 * first]
    assert len(jobs["killer"]) == 5, "four with more memory each, and one that gives up"

    pairs = work.pairs()
    failed = pairs[pairs.status == "failed"]
    assert failed[["model", "dataset"]].values.tolist() == [["killer--one", "dogs"]]
    reason = failed.reason.iloc[0]
    assert reason.startswith("4 processes ended here; the last (SLURM job ")
    assert "memory" in reason
    text = work.output.read_text()
    assert f"killer--one on dogs: {reason[:40]}" in text
    assert reason[:40] in (work.folder / "results/report.html").read_text().replace("<wbr>", "")
    assert work.halves() == []
    # Each finished pair was computed once, whatever happened to its neighbours.
    expected = [f"{model} {name}" for model in jobs_models(work) for name in DATASETS]
    assert work.computed() == sorted(set(expected) - {"killer--one dogs"})

    # The same command again: what was killed is tried again, nothing else is computed, the failure is told again.
    before = work.pair_files()
    assert work.finish(work.start()) == 1
    assert work.pair_files() == before
    again = Jobs.of(work.folder).of_rule("compute_conductance")
    assert len(again) == 5 + sum(map(len, jobs.values())) and work.computed() == sorted(set(work.computed()))


def jobs_models(work: Workspace) -> list[str]:
    return [row.split("\t")[0] for row in (work.folder / "config/models.tsv").read_text().splitlines()[1:]]


@contextlib.contextmanager
def a_small_disk(folder: Path, kilobytes: int):
    """Mount a file system of its own, or skip."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@slow
def test_a_full_disk_and_a_killed_head_lose_nothing(tmp_path, heads):
    work = a_zoo(tmp_path / "heads", heads, "waiting--one", "waiting--two")
    with a_small_disk(work.folder / "results", 40_000):
        # A full disk: jobs fail and say why; no half file is left, and what was finished stays.
        ballast = work.folder / "results/ballast"
        (work.folder / "go").touch()
        ballast.write_bytes(b"x" * (1024 * 40_000 - 110_000))
        process = work.start()
        wait_for(lambda: "No space left on device" in work.output.read_text(), 400)
        # SIGTERM: nothing more is submitted, what runs is waited for.
        process.send_signal(signal.SIGTERM)
        assert work.finish(process) == 1
        assert not Jobs.of(work.folder).running()
        assert work.halves() == []
        kept = work.pair_files()
        assert all(read_pair(path).ok for path in kept) and len(kept) < 6
        ballast.unlink()
        (work.folder / "go").unlink()
        (work.folder / "computed.txt").unlink(missing_ok=True)

        def held():
            return list((work.folder / "results/store/leases").glob("*.lease"))

        # SIGKILL: the job goes on without its head.
        process = work.start("--jobs", "1")
        wait_for(held, 400)
        process.kill()
        process.wait()
        (orphan,) = Jobs.of(work.folder).running()

        # The same command, at once: the orphan keeps its pair, the new jobs take others, none is computed twice.
        process = work.start()
        wait_for(lambda: len(held()) > 1 or "waiting for another process" in work.output.read_text(), 400)
        holders = [json.loads(path.read_text())["job"] for path in held()]
        assert len(set(holders)) == len(holders) and orphan["JobId"] in holders
        (work.folder / "go").touch()
        assert work.finish(process) == 0, work.output.read_text()[-3000:]
        assert kept.items() <= work.pair_files().items()
        assert len(work.pair_files()) == 6
        assert work.halves() == []
        assert len(work.computed()) == len(set(work.computed())) == 6 - len(kept), work.computed()
        assert (work.pairs().status == "ok").all()
        assert list((work.folder / "results/store/leases").iterdir()) == []
