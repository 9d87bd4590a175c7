"""`vlmrank rank` from images to a model: on tiny models, some under names that published accuracies know."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_zoo import make_model

import vlmrank
from vlmrank.cli.command_line import main
from vlmrank.errors import VlmrankError
from vlmrank.quickstart.given import read_budget, read_candidates, read_classes, read_images
from vlmrank.quickstart.rank import _schema
from vlmrank.store import read_csv, read_json

KNOWN = ["ViT-B-32--laion2b_s34b_b79k", "RN50-quickgelu--openai", "ViT-L-14--laion2b_s32b_b82k"]
NAMES = [*KNOWN, "mine", "other"]
CLASSES = ["cat", "dog", "ship"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photographs and five models."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.jpg")
    for seed, name in enumerate(NAMES):
        make_model(folder / "zoo" / name, seed)
    return folder


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """A folder of one's own that has them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(place / "photos")
    (tmp_path / "zoo").symlink_to(place / "zoo")
    return tmp_path


def ranked(**options):
    lines = []
    found = vlmrank.rank("photos", CLASSES, "zoo", device="cpu", cache="cache", say=lines.append, **options)
    return found, lines


def test_published_accuracies_answer_without_torch(here):
    code = (
        "import sys; from vlmrank.cli import main; "
        "status = main(['rank', 'photos', '--classes', 'cat,dog', '--models', '<=200M', '--published']); "
        "sys.exit(status or ('torch' in sys.modules) * 7)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    table = read_csv(here / "ranking" / "ranking.csv")
    best = table.iloc[0]
    assert best["status"] == "ok" and best["published"] == 1 and best["rank_low"] <= 1 <= best["rank_high"]
    unknown = table[table["published"].isna()]
    assert len(unknown) and set(unknown["status"]) == {"untried"}
    assert unknown["reason"].str.contains("no published accuracy").all()
    assert "<title>" in (here / "ranking" / "report.html").read_text()
    architecture, tag = best["model"].split("--")
    assert f'create_model_and_transforms("{architecture}", pretrained="{tag}")' in done.stdout.splitlines()[-2]


def test_the_shortlist_is_ranked_by_what_it_predicts(here):
    found, lines = ranked(top=4, budget=None)
    table = found.table
    assert list(table["status"]) == ["ok"] * 4 + ["untried"]
    assert table.iloc[-1]["model"] == "other"  # the last by name of the two that nobody published anything of
    assert table.iloc[-1]["reason"] == "not on the shortlist: no published accuracy"
    order = [line.split()[3] for line in lines if line.startswith("  ") and " of 4 " in line]
    assert order == [KNOWN[2], KNOWN[0], KNOWN[1], "mine"]  # the order of promise
    assert found.facts["ranked_by"] == "agreement" and found.best == table.iloc[0]["model"]
    again, _ = ranked(top=4)
    assert again.table.equals(table)
    assert read_csv(here / "ranking" / "ranking.csv")["model"].tolist() == table["model"].tolist()
    assert read_json(here / "ranking" / "answer.json")["model"] == found.best
    assert (here / "ranking" / "datasets.tsv").is_file() and (here / "ranking" / "Snakefile").is_file()


def test_the_library_loads_and_shows_the_best(here):
    found, _ = ranked(top=3)
    model, tokenizer, transform = found.load()
    embedding = model.encode_image(transform(Image.open("photos/0.jpg"))[None])
    assert embedding.shape == (1, 16) and tokenizer(["a cat"]).shape[0] == 1
    assert found.best in found._repr_html_() and "<script" not in found._repr_html_()
    assert len(repr(found)) < 200
    assert found.plot().to_dict()["layer"]
    scope = {}
    exec(found.code, scope)
    assert scope["model"].encode_image(scope["preprocess"](Image.open("photos/0.jpg"))[None]).shape == (1, 16)
    with pytest.raises(VlmrankError, match="not in the table"):
        found.load("nobody")


def test_what_is_there_when_it_is_killed_is_an_answer(here):
    command = ["rank", "photos", "--classes", "cat,dog,ship", "--models", "zoo", "--cache", "cache", "--device", "cpu"]
    code = f"from vlmrank.cli import main; main({command!r})"
    running = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True)
    seen = []
    for line in running.stdout:
        seen.append(line)
        if line.startswith("  2 of 5"):
            running.kill()
            break
    running.wait()
    assert any(line.startswith("  2 of 5") for line in seen), seen
    table = read_csv(here / "ranking" / "ranking.csv")
    assert sorted(table["model"]) == sorted(NAMES)
    assert table.iloc[0]["model"] == KNOWN[2] and table.iloc[0]["status"] == "ok"
    assert read_json(here / "ranking" / "answer.json")["model"] == KNOWN[2]
    assert (here / "ranking" / "report.html").read_text().rstrip().endswith("</html>")


def test_a_broken_model_is_a_row_and_takes_no_other_down(here):
    (here / "zoo").unlink()
    for name in NAMES[:4]:
        make_model(here / "zoo" / name, NAMES.index(name))
    (here / "zoo" / "mine" / "open_clip_model.safetensors").write_bytes(b"nonsense")
    found, lines = ranked()
    broken = found.table[found.table["model"] == "mine"].iloc[0]
    assert broken["status"] == "failed" and broken["reason"]
    assert (found.table["status"] == "ok").sum() == 3
    assert any("mine FAILED" in line for line in lines)


def test_without_class_names_published_accuracies_rank(here):
    lines = []
    found = vlmrank.rank("photos", None, "zoo", cache="cache", say=lines.append)
    assert found.best == KNOWN[2] and found.facts["ranked_by"] == "average_rank"
    assert any("class names" in line for line in lines)


def test_no_network_leaves_the_published_answer(here, monkeypatch):
    monkeypatch.setattr("vlmrank.models.hub.hub_is_reachable", lambda: False)
    lines = []
    models = ["ViT-B-32--laion2b_s34b_b79k", "ViT-B-16--laion2b_s34b_b88k", "zoo/mine"]
    found = vlmrank.rank("photos", CLASSES, models, cache="cache", say=lines.append)
    assert found.best == "ViT-B-16--laion2b_s34b_b88k" and found.facts["ranked_by"] == "average_rank"
    reasons = dict(zip(found.table["model"], found.table["reason"], strict=True))
    assert "not tried" in reasons[found.best] and "no network access" in reasons[found.best]
    assert any("no network access" in line for line in lines), lines


def test_a_disk_too_small_for_a_download_is_said_before_it_begins(here, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**8))
    models = ["ViT-B-16--laion2b_s34b_b88k", *(f"zoo/{name}" for name in NAMES[:3])]
    found = vlmrank.rank("photos", CLASSES, models, cache="cache", device="cpu", say=None)
    assert (found.table["status"] == "ok").sum() == 3 and found.facts["ranked_by"] == "agreement"
    last = found.table.iloc[-1]
    assert (last["model"], last["status"]) == (models[0], "untried"), last["reason"]
    assert "598 MB do not fit" in last["reason"] and "100 MB free" in last["reason"]


def test_a_time_that_is_over_leaves_the_rest_untried(here):
    found, lines = ranked(budget="0s")
    assert set(found.table["reason"][found.table["published"].notna()]) and found.best == KNOWN[2]
    assert any("5 models not tried: the budget of 0 s was spent" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "no such folder"]),
        (["empty", "--classes", "a,b"], ["empty", "holds no image"]),
        (["photos", "--classes", "cat,,dog"], ["name 2 of 3 is empty"]),
        (["photos", "--classes", "cat"], ["no file 'cat'", "commas"]),
        (["photos", "--classes", "cat,Cat"], ["one text"]),
        (["photos", "--classes", "cat," + "very " * 70 + "long"], ["name 2", "71 words", "shorten"]),
        (["photos", "--models", "<=1"], ["no model"]),
        (["photos", "--models", "ViT-B-32--nothing"], ["no sheet", "Did you mean"]),
        (["photos", "--models", "photos"], ["open_clip_config.json"]),
        (["photos", "--models", "<=500M", "--budget", "1MB"], ["1MB fits no model", "smallest"]),
        (["photos", "--budget", "much"], ["neither a size nor a time"]),
        (["photos", "--sources", "nowhere.tsv"], ["nowhere.tsv"]),
    ],
)
def test_wrong_input_is_one_sentence(here, capsys, arguments, words):
    (here / "empty").mkdir()
    assert main(["rank", *arguments]) == 2
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1 and "Traceback" not in told
    for word in words:
        assert word in told


def test_what_somebody_else_wrote_is_not_written_over(here, capsys):
    (here / "ranking").mkdir()
    (here / "ranking" / "config.yaml").write_text("models: mine.tsv\n")
    assert main(["rank", "photos", "--models", "<=200M", "--published"]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (here / "ranking" / "config.yaml").read_text() == "models: mine.tsv\n"
    assert [path.name for path in (here / "ranking").iterdir()] == ["config.yaml"]


def test_what_is_given_is_understood(here):
    assert read_images("photos").kind == "folder"
    assert read_classes("cat, dog") == ["cat", "dog"]
    assert read_budget("20GB,1h").seconds == 3600
    names = [one.row.model for one in read_candidates(">=1B", _schema("models"))]
    assert "ViT-bigG-14--laion2b_s39b_b160k" in names and "ViT-B-32--openai" not in names
    assert [one.row.model for one in read_candidates("zoo/mine", _schema("models"))] == ["mine"]
    Path("list.csv").write_text("image\nphotos/0.jpg\n")
    assert read_images("list.csv").kind == "csv"
    (here / "tars").mkdir()
    (here / "tars" / "0.tar").write_bytes(b"")
    assert read_images("tars").path.endswith("*.tar")
