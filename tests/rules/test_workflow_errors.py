"""A mistake of the user ends a run before any job, with one message in words and no traceback."""

import input_cases
import pytest
from PIL import Image
from workspace import Workspace

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("errors"))


def misspelt_key(work):
    work.write("mine.yaml", "conductance:\n  pionts: 8\n")
    return ["--configfile", "mine.yaml"], "mine.yaml: conductance.pionts: there is no such key. Did you mean 'points'?"


def twice_the_same_model(work):
    text = (work.folder / "config/models.tsv").read_text()
    work.write("twice.tsv", text + text.splitlines()[1] + "\n")
    return ["--config", "models=twice.tsv"], "twice.tsv, line 12, model: 'ViT-demo-8--broad' is on line 2 already."


def no_such_folder(work):
    text = (work.folder / "config/datasets.tsv").read_text()
    work.write("sheet.tsv", text + "mine\tsource\tfolder\tno/such/folder\t\t\t\n")
    return [
        "--config",
        "datasets=sheet.tsv",
    ], "sheet.tsv, line 12, path: the folder no/such/folder of mine does not exist."


def list_that_does_not_fit(work):
    work.write("classes.yaml", "classes: [cat, dog]\n")
    work.write("mine.csv", "path,class_name\na.png,zebra\n")
    text = (work.folder / "config/datasets.tsv").read_text()
    work.write("sheet.tsv", text + "mine\tsource\tcsv\tmine.csv\t\tclasses.yaml\t\n")
    return (
        ["--config", "datasets=sheet.tsv"],
        "sheet.tsv, line 12, path: mine.csv, row 1: the label 'zebra' is none of the class names",
    )


@pytest.mark.parametrize("mistake", [misspelt_key, twice_the_same_model, no_such_folder, list_that_does_not_fit])
def test_one_message_in_words(work, mistake):
    arguments, words = mistake(work)
    done = work.snakemake(*arguments)
    printed = done.stdout + done.stderr
    assert done.returncode == 1, printed
    assert words in printed
    assert "Traceback" not in printed and ", in <module>" not in printed and "Job stats" not in printed
    assert not (work.folder / "results").exists() and not (work.folder / "resources").exists()


def test_class_folders_that_do_not_fit_stop_nothing(work):
    work.write("classes.yaml", "classes: [cat, dog]\n")
    Image.new("RGB", (8, 8)).save(work.write("images/zebra/0.png", ""))
    text = (work.folder / "config/datasets.tsv").read_text()
    work.write("sheet.tsv", text + "mine\tsource\tfolder\timages\t\tclasses.yaml\t\n")
    done = work.snakemake("-n", "--config", "datasets=sheet.tsv")
    assert done.returncode == 0 and "Job stats" in done.stdout
    told = "sheet.tsv, line 12, path: the class folder images/zebra fits no class of classes.yaml"
    assert (done.stdout + done.stderr).count(told) == 1


@pytest.mark.parametrize(("arguments", "words", "_"), input_cases.BEFORE_US)
def test_what_snakemake_says_before_it_reads_the_workflow(work, arguments, words, _):
    """docs/inputs.md quotes it."""
    work.write("broken.yaml", "a: [1\n")
    done = work.snakemake("-n", *arguments.split())
    assert done.returncode != 0 and words in " ".join((done.stdout + done.stderr).split())
