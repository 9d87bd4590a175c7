"""Source packs: what is in them is exactly what a run from images has; what does not fit is refused with its reason."""

import json
import zipfile

import pandas as pd
import pytest
from tiny_zoo import make_dataset, make_model

from vlmrank.cli.command_line import main
from vlmrank.datasets.draw import Draw
from vlmrank.datasets.prepare import DatasetCells, prepare_dataset
from vlmrank.errors import VlmrankError
from vlmrank.jobs import pool
from vlmrank.jobs.compute_conductance import compute_conductance
from vlmrank.jobs.measure_accuracy import measure_accuracies
from vlmrank.jobs.pool import JobSettings
from vlmrank.models.card import fetch_model
from vlmrank.store import packs, read_json, read_pair, write_csv, write_json
from vlmrank.store.identities import deciding_options
from vlmrank.workflow.config import check_config, read_schema
from vlmrank.workflow.packed import packs_for, rows_of
from vlmrank.workflow.sheets import ModelRow, read_datasets

SOURCES = ("cats", "dogs")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder with finished results of one model on two sources, and its pack."""
    folder = tmp_path_factory.mktemp("packs")
    make_model(folder / "zoo/a", 0)
    model = fetch_model("A", f"local-dir:{folder / 'zoo/a'}")
    rows = ["dataset\trole\tkind\tpath\tdomain\tgroup"]
    for seed, name in enumerate(SOURCES):
        make_dataset(folder / "images" / name, seed)
        rows.append(f"{name}\tsource\tfolder\t{folder / 'images' / name}\tnoise\t{'pets' if seed else ''}")
    (folder / "datasets.tsv").write_text("\n".join(rows) + "\n")
    config = f"results: {folder / 'results'}\ndatasets: {folder / 'datasets.tsv'}\n"
    (folder / "config.yaml").write_text(config + "conductance: {points: 2, device: cpu}\nimages: {per_dataset: 4}\n")
    results = folder / "results"
    cards = [
        prepare_dataset(DatasetCells(**row.values()), Draw(images=4, predictions=6))
        for row in read_datasets(folder / "datasets.tsv", read_schema("schemas/datasets.schema.yaml"))
    ]
    write_json(results / "models/A.json", model)
    for card in cards:
        write_json(results / f"datasets/{card['dataset']}.json", card)
    outputs = [results / f"conductance/A/{name}.h5" for name in SOURCES]
    compute_conductance(model, cards, outputs, options(), JobSettings(folder / "store", "code", device="cpu"))
    table = [("A", name, 0.25 + seed / 2, 12, "measured") for seed, name in enumerate(SOURCES)]
    write_csv(results / "accuracy.csv", pd.DataFrame(table, columns=["model", "dataset", "acc1", "n", "origin"]))
    classes = pd.DataFrame([("A", "cats", "ship", 0.5, 4)], columns=["model", "dataset", "class", "acc1", "n"])
    write_csv(results / "accuracy_per_class.csv", classes)
    assert main(["pack", "--config", str(folder / "config.yaml"), "--out", str(folder / "packs")]) == 0
    return folder


def options(**changed):
    config = check_config({"conductance": {"device": "cpu", "points": 2}}, read_schema("schemas/config.schema.yaml"))
    return deciding_options({**config["conductance"], **changed})


def unpack(folder, model=None, datasets=SOURCES, files=None, code="code", **changed):
    """The pair of each source as a run with the pack, but no images, has it."""
    cards = [
        prepare_dataset(
            DatasetCells(name, "source", str(folder / "packs/A.vlmpack"), packs.PACKED_KIND), Draw(images=9)
        )
        for name in datasets
    ]
    assert all(card["status"] == "ok" for card in cards), cards[0]["reason"]
    outputs = [folder / "other" / f"{name}.h5" for name in datasets]
    files = packs.find_packs([str(folder / "packs")]) if files is None else files
    settings = JobSettings(folder / "empty", code, device="cpu", packs=files)
    model = {**read_json(folder / "results/models/A.json"), **(model or {})}
    compute_conductance(model, cards, outputs, options(**changed), settings)
    return [read_pair(path) for path in outputs]


@pytest.fixture(autouse=True)
def no_model(monkeypatch, packed):
    monkeypatch.setattr(pool, "load", lambda *_: pytest.fail("the model was loaded"))


def test_a_pair_from_a_pack_is_the_pair_itself(packed):
    unpack(packed)
    for name in SOURCES:
        was, now = (packed / folder / f"{name}.h5" for folder in ("results/conductance/A", "other"))
        assert was.read_bytes() == now.read_bytes()


def test_a_pair_takes_this_users_name_of_the_model(packed):
    found = unpack(packed, {"model": "mine"})
    assert [one.attributes["model"] for one in found] == ["mine", "mine"] and found[0].ok


def test_packs_hold_neither_images_nor_places(packed):
    with zipfile.ZipFile(packed / "packs/A.vlmpack") as file:
        names = file.namelist()
        text = file.read(packs.CONTENTS).decode()
    assert len(names) == 3 and all(name == packs.CONTENTS or name.startswith("pairs/") for name in names)
    assert str(packed) not in text and "png" in text  # identifiers of images, which identities need
    assert '"label"' not in text and '"path"' not in text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"points": 4}, "points is 2 there and 4 here"),
        ({"code": "new"}, "a vlmrank whose code computes conductance in another way"),
        ({"model": {"weights_sha256": "0"}}, "another model of this name: they differ in weights_sha256"),
        ({"files": []}, "the source cats comes from a pack, and no pack is of this model"),
    ],
)
def test_what_does_not_fit_is_a_row_with_its_reason(packed, changed, told):
    for pair in unpack(packed, **changed):
        assert not pair.ok
    assert told in unpack(packed, **changed)[0].attributes["reason"]


def test_accuracies_come_along(packed):
    cards = [prepare_dataset(DatasetCells(name, "source", str(packed / "packs/A.vlmpack"), "pack")) for name in SOURCES]
    files = packs.find_packs([str(packed / "packs/A.vlmpack")])
    outputs = [packed / "other" / f"{name}.json" for name in SOURCES]
    model = read_json(packed / "results/models/A.json")
    measure_accuracies(model, cards, outputs, JobSettings(packed / "empty", packs=files))
    found = [read_json(path) for path in outputs]
    assert [one["acc1"] for one in found] == [0.25, 0.75] and found[0]["per_class"] == {"ship": [0.5, 4]}
    measure_accuracies({**model, "weights_sha256": "0"}, cards, outputs, JobSettings(packed / "empty", packs=files))
    assert "no pack knows this model's accuracy" in read_json(outputs[0])["reason"]


def test_sources_of_packs_are_rows_unless_the_sheet_has_them(packed, tmp_path):
    found = [packs.read_pack(path) for path in packs.find_packs([str(packed / "packs")])]
    (tmp_path / "sheet.tsv").write_text("dataset\trole\tpath\nt\ttarget\timages\nDogs\tsource\tmine\n")
    rows = read_datasets(tmp_path / "sheet.tsv", read_schema("schemas/datasets.schema.yaml"), rows_of(found))
    assert [(row.dataset, row.kind) for row in rows] == [("t", "folder"), ("Dogs", "folder"), ("cats", "pack")]
    assert (rows[2].domain, rows_of(found)[1].group) == ("noise", "pets")
    for row, count in ((("A", "local-dir:x"), 1), (("B", "local-dir:x"), 0), (("B", "ViT-B-32", "openai"), 0)):
        assert len(packs_for(ModelRow(*row), found)) == count


def test_what_is_no_pack_is_one_sentence(packed, tmp_path):
    for place, told in (("nowhere", "does not exist"), (str(tmp_path), "holds no .vlmpack file")):
        with pytest.raises(VlmrankError, match=told):
            packs.find_packs([place])
    whole = (packed / "packs/A.vlmpack").read_bytes()
    for content, told in ((b"", "is no pack"), (whole[:300], "is no pack"), (b"PK" + bytes(90), "is no pack")):
        (tmp_path / "x.vlmpack").write_bytes(content)
        with pytest.raises(VlmrankError, match=told):
            packs.read_pack(tmp_path / "x.vlmpack")


def written(path, contents, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(packs.CONTENTS, contents if isinstance(contents, str) else json.dumps(contents))
        for name, content in members.items():
            file.writestr(f"pairs/{name}.h5", content)
    return path


def test_a_pack_is_data_from_somebody_else(packed, tmp_path, monkeypatch):
    empty = {"format": 1, "model": {}, "settings": {}, "datasets": {}, "groups": {}, "accuracy": {}}
    for contents, told in (
        ("[1", "no readable pack.json"),
        ({**empty, "format": 2}, "of format 2"),
        ({**empty, "groups": []}, "lacks a part"),
        ({**empty, "datasets": {"../../x": {}}}, "no name of a dataset"),
    ):
        with pytest.raises(VlmrankError, match=told):
            packs.read_pack(written(tmp_path / "x.vlmpack", contents))
    pair = (packed / "results/conductance/A/cats.h5").read_bytes()
    own = packs.read_pack(written(tmp_path / "y.vlmpack", empty, other=pair, broken=pair[:-1], bomb=bytes(1 << 20)))
    for name, told in (("other", "another than its name says"), ("broken", "not a whole result"), ("bomb", "larger")):
        monkeypatch.setattr(packs, "MOST_PAIR", 1 << 19)
        with pytest.raises(VlmrankError, match=told):
            own.take(name, tmp_path / "out.h5")
    assert not own.take("none", tmp_path / "out.h5") and not list(tmp_path.glob("*out.h5*"))


def test_pack_says_what_is_not_finished(packed, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text((packed / "config.yaml").read_text().replace("points: 2", "points: 3"))
    assert main(["pack", "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "computed with other settings" in printed and "no pack: there is no finished pair" in printed
    assert main(["pack", "--config", str(packed / "config.yaml"), "--model", "B"]) == 2
    assert "has no B" in capsys.readouterr().err
