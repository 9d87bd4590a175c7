"""The demo's tasks are drawn the same everywhere, and its models are ordinary OpenCLIP models."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from vlmrank import demo
from vlmrank.demo.tasks import TASKS, sample, write_dataset
from vlmrank.demo.verdict import verdict
from vlmrank.errors import VlmrankError

ROOT = Path(__file__).parents[2]


def test_names_of_the_light_module_are_those_of_the_tasks():
    assert tuple(TASKS) == demo.TASKS
    assert demo.TARGET in TASKS
    assert set(demo.NEVER_TRAINED) < set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_images_depend_on_the_seed_alone_and_splits_share_none(name):
    images, labels = sample(name, "test", 2, seed=3)
    again, _ = sample(name, "test", 2, seed=3)
    np.testing.assert_array_equal(images, again)
    assert images.shape == (2 * len(TASKS[name].classes), 32, 32, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), 2)
    digests = [
        {hashlib.sha256(image.tobytes()).digest() for image in sample(name, split, 3, seed=3)[0]}
        for split in ("train", "target", "test")
    ]
    assert not digests[0] & digests[1]
    assert not digests[0] & digests[2]
    assert not digests[1] & digests[2]


def test_handwritten_digits_give_what_there_is_when_more_are_asked_for():
    total = sum(len(sample("digits", split, 1000)[0]) for split in ("train", "target", "test"))
    assert total == 1797


def test_the_target_keeps_its_labels_apart(tmp_path):
    for name in ("shapes", demo.TARGET):
        write_dataset(name, tmp_path / name, unlabelled=5, per_class=1)
        sheet = yaml.safe_load((tmp_path / name / "dataset.yaml").read_text(encoding="utf-8"))
        assert sheet["classes"] == list(TASKS[name].classes)
        assert all("{c}" in template for template in sheet["templates"])
        assert len(list((tmp_path / name / "target").glob("*.png"))) == 5
    assert sorted(p.name for p in (tmp_path / "shapes").iterdir()) == ["dataset.yaml", "target", "test"]
    assert sorted(p.name for p in (tmp_path / demo.TARGET).iterdir()) == ["dataset.yaml", "held_out", "target"]
    assert (tmp_path / "shapes" / "test" / "00_circle").is_dir()


def test_the_sheets_name_the_files_that_the_demo_makes():
    with (ROOT / "config" / "models.tsv").open(encoding="utf-8") as file:
        models = list(csv.DictReader(file, delimiter="\t"))
    assert [row["model"] for row in models] == [m for family in demo.FAMILIES for m in demo.model_names(family)]
    assert all(row["architecture"] == f"local-dir:resources/demo/models/{row['model']}" for row in models)
    with (ROOT / "config" / "datasets.tsv").open(encoding="utf-8") as file:
        datasets = list(csv.DictReader(file, delimiter="\t"))
    assert [row["dataset"] for row in datasets] == list(demo.TASKS)
    assert [row["dataset"] for row in datasets if row["role"] == "target"] == [demo.TARGET]
    assert not any("held_out" in value for row in datasets for value in row.values())
    assert [row["domain"] for row in datasets] == [task.domain for task in TASKS.values()]


@pytest.mark.parametrize("family", demo.FAMILIES)
def test_a_trained_model_is_an_ordinary_openclip_model(family, tmp_path):
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    from vlmrank.demo.train import train_family

    before = torch.get_rng_state()
    accuracy = train_family(family, tmp_path, variants=2, effort=0.003, per_class=2, say=lambda line: None)
    assert torch.equal(before, torch.get_rng_state())
    names = demo.model_names(family, 2)
    assert tuple(accuracy) == names
    images, labels = sample("colours", "test", 25)
    task = TASKS["colours"]
    weights = []
    for name in names:
        folder = tmp_path / name
        model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        model.eval()
        with torch.inference_mode():
            text = torch.stack(
                [
                    model.encode_text(tokenizer([t.format(c=c) for c in task.classes]), normalize=True)
                    for t in task.templates
                ]
            ).mean(0)
            from PIL import Image

            pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
            found = (model.encode_image(pixels, normalize=True) @ text.T).argmax(1).numpy()
        # float16 weights may move a tie or two
        assert abs(float((found == labels).mean()) - accuracy[name]["colours"]) <= 0.02
        weights.append(model.visual.state_dict())
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_training_repeats_itself(tmp_path):
    pytest.importorskip("torch")
    from vlmrank.demo.train import train_family

    for run in ("a", "b"):
        train_family("ViT-demo-8", tmp_path / run, variants=1, effort=0.002, per_class=2, say=lambda line: None)
    first, second = (
        (tmp_path / run / "ViT-demo-8--broad" / "open_clip_model.safetensors").read_bytes() for run in ("a", "b")
    )
    assert first == second


def test_the_verdict_compares_the_answer_with_labels_kept_aside(tmp_path):
    ranking = tmp_path / "results" / "ranking" / "sketches.csv"
    with pytest.raises(VlmrankError, match="no ranking of sketches"):
        verdict(tmp_path / "results", tmp_path / "models")
    ranking.parent.mkdir(parents=True)
    ranking.write_text(
        "rank,model,score,rank_low,rank_high,p_top5,status,reason\n1,b,0.9,1,2,1.0,ok,\n2,a,0.5,1,2,1.0,ok,\n"
        ",c,,,,,failed,broken\n"
    )
    for model, accuracy in {"a": 0.75, "b": 0.5, "c": 1.0}.items():
        (tmp_path / "models" / model).mkdir(parents=True)
        (tmp_path / "models" / model / "training.json").write_text(json.dumps({"accuracy": {"sketches": accuracy}}))
    lines = verdict(tmp_path / "results", tmp_path / "models")
    assert lines[1].startswith(
        "recommended: b (90 % interval of its rank: 1 to 2 of 2; in the first five with probability 1.00)"
    )
    assert "accuracy of 0.500, number 2 of 2; the best, a, has 0.750, the mean is 0.625" in lines[2]
    assert lines[3].endswith("report.html")
