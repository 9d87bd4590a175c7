"""What is run again after a change: each test makes one change and counts the jobs of a dry run.

Nothing is computed here: the scripts are replaced by one that writes its outputs without any content.
"""

import contextlib
import json
import os
import re
from collections import Counter

import pytest
from PIL import Image
from workspace import Workspace

from vlmrank.workflow.integrity import note_results

pytestmark = pytest.mark.workflow

MODELS = ("A--one", "B--one")
DATASETS = ("cats", "dogs", "tools")
THE_REPORT = {"build_report": 1, "check_pairs": 1}
GATHERS = dict.fromkeys(("gather_accuracy", "gather_pairs", "rank_models", "relate_classes"), 1)
GATHERS |= dict.fromkeys(("evaluate_methods", "build_report", "check_pairs"), 1)
OF_A_MODEL = (
    "fetch_model",
    "compute_conductance",
    "align_blocks",
    "compute_dcd",
    "gather_evidence",
    "measure_accuracy",
)
AFTER_CONDUCTANCE = ("align_blocks", "compute_dcd", "gather_evidence")


def add_model(work, name):
    work.write(f"zoo/{name}/open_clip_config.json", json.dumps({"model_cfg": {}}))
    work.write(f"zoo/{name}/open_clip_model.safetensors", name)
    with (work.folder / "config/models.tsv").open("a") as sheet:
        sheet.write(f"{name}\tlocal-dir:zoo/{name}\n")


def add_dataset(work, name, role="source"):
    folder = work.folder / "images" / name / "thing"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "0.png")
    with (work.folder / "config/datasets.tsv").open("a") as sheet:
        sheet.write(f"{name}\t{role}\timages/{name}\n")


def finish(work):
    """Run every job with a script that only writes its outputs: what is tested is what Snakemake remembers of them."""
    for path in (work.folder / "scripts").glob("*.py"):
        path.write_text("from pathlib import Path\n\nfor name in snakemake.output:\n    Path(name).write_text(name)\n")
    done = work.snakemake("--no-hooks", cores=2)
    assert done.returncode == 0, done.stdout + done.stderr
    note(work)
    assert work.jobs() == {}


def note(work):
    """Note the state of the results, as the hook does: what a later start finds unchanged it does not read."""
    with contextlib.chdir(work.folder):
        note_results("results")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    work = Workspace(tmp_path_factory.mktemp("finished"))
    work.write("config/models.tsv", "model\tarchitecture\n")
    work.write("config/datasets.tsv", "dataset\trole\tpath\n")
    for name in MODELS:
        add_model(work, name)
    for name in DATASETS:
        add_dataset(work, name, "target" if name == "tools" else "source")
    finish(work)
    return work


@pytest.fixture
def work(finished):
    """The finished working directory; what a test writes into sheets, config and library is undone afterwards."""
    names = ["config.yaml", *("config/models.tsv", "config/datasets.tsv")]
    names += [str(path.relative_to(finished.folder)) for path in (finished.folder / "scripts").rglob("*.py")]
    names += [str(path.relative_to(finished.folder)) for path in (finished.folder / "rules").glob("*.smk")]
    before = {name: (finished.folder / name).read_text() for name in names}
    yield finished
    for name, text in before.items():
        if (finished.folder / name).read_text() != text:
            finished.write(name, text)


def test_a_new_model_runs_its_own_jobs_and_the_gathers(work):
    add_model(work, "B--two")
    assert work.jobs() == {**dict.fromkeys(OF_A_MODEL, 1), **GATHERS}


def test_a_new_dataset_runs_one_conductance_job_a_model(work):
    add_dataset(work, "birds")
    counts = work.jobs()
    assert counts.pop("prepare_dataset") == 1
    models = len(MODELS)
    assert counts == {
        "compute_conductance": models,
        "measure_accuracy": models,
        **dict.fromkeys(AFTER_CONDUCTANCE, models),
        **GATHERS,
    }


def test_a_new_dataset_runs_the_chunk_that_holds_it_alone(work):
    work.configure(conductance={"datasets_per_job": len(DATASETS)})
    assert work.jobs() == THE_REPORT
    add_dataset(work, "fish")
    counts = work.jobs()
    assert {name: count for name, count in counts.items() if "conductance" in name} == {
        "compute_conductance_1": len(MODELS)
    }


def test_a_model_whose_datasets_take_longer_than_a_job_should_is_cut_and_others_are_not(work):
    with (work.folder / "config/models.tsv").open("a") as sheet:
        sheet.write("small\tRN50\topenai\nlarge\tViT-bigG-14\tlaion2b_s39b_b160k\n")
    work.edit("config/models.tsv", "architecture\n", "architecture\tpretrained\n")
    work.configure(conductance={"job_minutes": 6})
    counts = work.jobs()
    found = {name: count for name, count in counts.items() if "conductance" in name}
    cut = ["", "_1", "_2", "_3"]  # one dataset per job for the large model, all in one for the small one
    assert found == {f"compute_conductance{number}": 1 for number in cut}
    work.configure(conductance={"job_minutes": 600})
    assert work.jobs()["compute_conductance"] == 2


def submitted(work, *arguments):
    """Rule or group -> how many jobs the scheduler would be given for it."""
    text = work.snakemake("-n", "--profile", "profiles/slurm", *arguments).stdout
    local = r"fetch_model|prepare_dataset|gather_accuracy|gather_pairs|check_pairs|all"
    return Counter(re.findall(rf"^rule (?!(?:{local}):)(\w+):|Group job (\S+)", text, re.M))


@pytest.mark.parametrize("at_once", [0, 1])
def test_a_model_is_submitted_twice_beside_its_conductance(work, at_once):
    work.configure(conductance={"datasets_per_job": at_once})
    found = submitted(work, "--forceall")
    chunks = len(DATASETS) if at_once else 1
    conductance = sum(count for (rule, _), count in found.items() if rule.startswith("compute_conductance"))
    assert conductance == chunks * len(MODELS)
    of_a_model = {("measure_accuracy", ""): len(MODELS), **{("", f"gather_{name}"): 1 for name in MODELS}}
    assert {name: found[name] for name in of_a_model} == of_a_model
    assert sum(found.values()) - conductance == 2 * len(MODELS) + 2


def test_an_edit_that_only_the_report_uses_runs_no_conductance(work):
    path = "scripts/vlmrank/report/build.py"
    with (work.folder / path).open("a") as file:
        file.write("\n\ndef another() -> int:\n    return 1\n")
    assert work.jobs() == THE_REPORT


def test_an_edit_that_conductance_uses_runs_what_depends_on_it(work):
    path = "scripts/vlmrank/conductance/quadrature.py"
    head = re.search(r"^def arc_length_curve\(.*?\) -> [^\n]*:\n", (work.folder / path).read_text(), re.M | re.S)[0]
    work.edit(path, head, head + "    curve = 1\n")
    models = len(MODELS)
    assert work.jobs() == {
        "compute_conductance": models,
        **dict.fromkeys(AFTER_CONDUCTANCE, models),
        **{name: count for name, count in GATHERS.items() if name != "gather_accuracy"},
    }


def test_an_edit_of_prose_runs_nothing(work):
    with (work.folder / "scripts/vlmrank/conductance/layer.py").open("a") as file:
        file.write("# a comment\n")
    assert work.jobs() == {}


def test_an_edit_of_the_ranking_runs_no_gpu_job(work):
    work.configure(ranking={"kappa": 0.3})
    assert work.jobs() == dict.fromkeys(("rank_models", "evaluate_methods", "build_report", "check_pairs"), 1)


def test_what_does_not_change_a_result_runs_the_report_alone(work):
    work.configure(store="elsewhere", cache="elsewhere", conductance={"device": "cpu", "batch": 4})
    assert work.jobs() == THE_REPORT


def test_the_order_of_keys_does_not_matter(work):
    text = (work.folder / "config.yaml").read_text()
    work.configure()
    assert (work.folder / "config.yaml").read_text() != text
    assert work.jobs() == {}


def test_what_failed_for_a_reason_that_passes_is_made_again(work):
    table = work.folder / "results/pairs.csv"
    before, facts = table.read_text(), table.stat()
    try:
        head = "stage,model,dataset,status,reason,seconds\n"
        table.write_text(f"{head}conductance,A--one,cats,failed,broken weights,0\n")
        os.utime(table, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
        note(work)
        assert work.jobs() == {}
        table.write_text(f"{head}conductance,A--one,cats,ok,left out: image a: gone; run again,0\n")
        os.utime(table, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
        note(work)
        assert work.jobs() == {
            "compute_conductance": 1,
            **dict.fromkeys(AFTER_CONDUCTANCE, 1),
            **{name: count for name, count in GATHERS.items() if name != "gather_accuracy"},
        }
    finally:
        table.write_text(before)
        os.utime(table, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
        note(work)


@pytest.mark.parametrize(
    ("name", "rule"),
    [("images/cats/thing/0.png", "prepare_dataset"), ("zoo/A--one/open_clip_model.safetensors", "fetch_model")],
)
def test_a_file_overwritten_in_place_by_an_older_one_is_seen(work, name, rule):
    path = work.folder / name
    before, facts = path.read_bytes(), path.stat()
    try:
        path.write_bytes(before)
        os.utime(path, ns=(10**18, 10**18))
        assert work.jobs()[rule] == 1
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    assert work.jobs() == {}
