"""Pipes, devices, circles of links, sparse terabytes and bombs: each is refused by name and size, and nothing waits."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile

import pandas as pd
import pytest
from canary import within
from dataset_rows import prepared
from PIL import Image
from tiny import tiny_state, write_tiny

from vlmrank import files
from vlmrank.accuracy.tables import read_names, read_table
from vlmrank.datasets.prompts import read_prompts
from vlmrank.errors import VlmrankError
from vlmrank.files import MIB, MOST_TEXT, RefusedFileError, read_regular, read_text
from vlmrank.models.card import fetch_model
from vlmrank.workflow.config import read_schema
from vlmrank.workflow.downloads import check_row
from vlmrank.workflow.sheets import ModelRow, read_models

TERABYTE = 1 << 40


@pytest.fixture(autouse=True)
def _in_time():
    with within(30):
        yield


def pipe(path):
    os.mkfifo(path)
    return "is a named pipe, not a file"


def device(path):
    path.symlink_to("/dev/zero")
    return "is a device, not a file"


def circle(path):
    path.symlink_to(path.name)
    return "symbolic links"


def sparse(path):
    with path.open("wb") as file:
        file.truncate(TERABYTE)
    return "has 1024 GiB, more than the"


def directory(path):
    path.mkdir()
    return "is a folder, not a file"


ENDLESS = pytest.mark.parametrize("make", [pipe, device, circle, sparse, directory])


def png(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path, "PNG")


def without_name(words):
    return words.removeprefix("is ").removeprefix("has ")


# --- what reads ------------------------------------------------------------------------------------------------------


@ENDLESS
def test_reading(tmp_path, make):
    words = make(tmp_path / "a")
    for read in (lambda path: read_regular(path, most=MIB), read_text, lambda path: files.read_parquet(path)):
        with pytest.raises((RefusedFileError, OSError, VlmrankError), match=words):
            read(tmp_path / "a")


@ENDLESS
def test_an_image_in_a_class_folder(tmp_path, make):
    png(tmp_path / "images" / "cat" / "good.png")
    words = make(tmp_path / "images" / "cat" / "bad.png")
    card = prepared("d", "source", "folder", str(tmp_path / "images"))
    assert (card["status"], len(card["images"])) == ("ok", 1)
    if make is not directory:
        assert without_name(words) in card["failed_images"][0]["reason"]


@ENDLESS
def test_a_list_of_images(tmp_path, make):
    words = make(tmp_path / "list.csv")
    assert without_name(words) in prepared("d", "source", "csv", str(tmp_path / "list.csv"))["reason"] or (
        make in (pipe, device, circle, directory)
    )
    words = make(tmp_path / "list.parquet")
    card = prepared("d", "source", "csv", str(tmp_path / "list.parquet"))
    assert card["status"] == "failed"


@ENDLESS
def test_an_image_that_a_list_names(tmp_path, make):
    words = make(tmp_path / "bad.png")
    (tmp_path / "list.csv").write_text("path\nbad.png\n")
    card = prepared("d", "source", "csv", str(tmp_path / "list.csv"))
    assert without_name(words) in card["reason"]


@ENDLESS
def test_a_tar(tmp_path, make):
    make(tmp_path / "0.tar")
    card = prepared("d", "source", "webdataset", str(tmp_path / "0.tar"))
    assert card["status"] == "failed" and card["reason"]
    (tmp_path / "set" / "test").mkdir(parents=True)
    make(tmp_path / "set" / "test" / "0.tar")
    card = prepared("d", "source", "webdataset", str(tmp_path / "set"))
    assert card["status"] == "failed" and card["reason"]


@ENDLESS
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".csv.gz"])
def test_a_table_of_accuracies(tmp_path, make, suffix):
    words = make(tmp_path / f"table{suffix}")
    with pytest.raises(VlmrankError, match=words):
        read_table(tmp_path / f"table{suffix}")


@ENDLESS
def test_a_name_map_a_sheet_and_a_class_file(tmp_path, make):
    words = make(tmp_path / "a.tsv")
    for read in (read_names, read_prompts, lambda path: read_models(path, read_schema("schemas/models.schema.yaml"))):
        with pytest.raises(VlmrankError, match=words):
            read(tmp_path / "a.tsv")


@ENDLESS
@pytest.mark.parametrize(
    "name", ["open_clip_config.json", "open_clip_model.safetensors", "tokenizer_config.json", "tokenizer.json"]
)
def test_a_file_of_a_models_folder(tmp_path, make, name):
    folder = write_tiny(tmp_path / "model", tiny_state())
    if name.startswith("tokenizer"):
        config = folder / "open_clip_config.json"
        config.write_text(config.read_text().replace('"text_cfg": {', '"text_cfg": {"hf_tokenizer_name": "x", '))
        (folder / "tokenizer.json").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    words = make(folder / name)
    card = fetch_model("m", f"local-dir:{folder}", offline=True)
    assert card["status"] == "failed", card
    assert words in card["reason"] or "holds no" in card["reason"], card["reason"]
    checked = check_row(ModelRow("m", f"local-dir:{folder}"), cache=None)
    assert checked.state == "wrong"


@ENDLESS
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_checkpoint(tmp_path, make, suffix):
    words = make(tmp_path / f"a{suffix}")
    card = fetch_model("m", "ViT-B-32", str(tmp_path / f"a{suffix}"), offline=True)
    assert words in card["reason"] or "does not exist" in card["reason"]


# --- what grows while it is read -------------------------------------------------------------------------------------


def packed(opener, path, size):
    with opener(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(b"a,b\n" * (MIB // 4))


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_a_packed_table_is_unpacked_up_to_the_limit(tmp_path, suffix, opener, monkeypatch):
    small = tmp_path / f"small.csv{suffix}"
    with opener(small, "wt") as file:
        file.write("model,dataset,acc1\nm,d,0.5\n")
    assert read_table(small)["acc1"].tolist() == [0.5]
    bomb = tmp_path / f"bomb.csv{suffix}"
    packed(opener, bomb, 24 * MIB)
    monkeypatch.setattr(files.read_text, "__kwdefaults__", {"most": 16 * MIB})  # the real one takes seconds
    with pytest.raises(VlmrankError, match="holds more than the 16 MiB that are read"):
        read_table(bomb)


def test_a_list_that_is_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(files.read_text, "__kwdefaults__", {"most": 2 * MIB})
    packed(gzip.open, tmp_path / "a.csv.gz", 4 * MIB)
    card = prepared("d", "source", "csv", str(tmp_path / "a.csv.gz"))
    assert "holds more than the 2 MiB that are read" in card["reason"]


def test_a_parquet_file_of_a_few_kilobytes_that_holds_gigabytes(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    long = pyarrow.array(["x" * 5_000] * 8_000)
    pyarrow.parquet.write_table(pyarrow.table({"path": long}), path, compression="zstd", use_dictionary=True)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(files.read_parquet, "__kwdefaults__", {"most": 8 * MIB})
    with pytest.raises(VlmrankError, match="holds more than the 8 MiB"):
        read_table(path)
    assert "holds more than the 8 MiB" in prepared("d", "source", "csv", str(path))["reason"]


def test_archives_in_the_place_of_a_table(tmp_path):
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "a.csv", compression="zip")
    with pytest.raises(VlmrankError, match="is a zip archive: unpack it"):
        read_table(tmp_path / "a.csv")


def header_of(size, kind=tarfile.REGTYPE, name="a.png"):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_tar_whose_header_claims_a_terabyte(tmp_path, kind):
    path = tmp_path / "0.tar"
    with path.open("wb") as file:
        file.write(header_of(TERABYTE, kind))
        file.truncate(2 * TERABYTE)
    card = prepared("d", "source", "webdataset", str(path))
    assert "has a header of 1024 GiB, more than 1 MiB" in card["reason"]


def test_a_sparse_member_is_no_image(tmp_path):
    path = tmp_path / "0.tar"
    whole = io.BytesIO()
    Image.new("RGB", (8, 8)).save(whole, "PNG")
    content = whole.getvalue()
    with path.open("wb") as file:
        file.write(header_of(len(content), name="good.png") + content.ljust(512 * (1 + len(content) // 512), b"\0"))
        file.write(header_of(512, tarfile.GNUTYPE_SPARSE, "hole.png") + bytes(512) + bytes(1024))
    card = prepared("d", "source", "webdataset", str(path))
    assert [image["id"] for image in card["images"]] == ["good"], card


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_a_packed_tar_is_refused_and_not_unpacked(tmp_path, suffix):
    opener = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}[suffix]
    packed(opener, tmp_path / f"0.tar{suffix}", MIB)
    card = prepared("d", "source", "webdataset", str(tmp_path / f"0.tar{suffix}"))
    assert "not a plain tar file" in card["reason"] or "unpack" in card["reason"]


def test_links_in_circles_and_in_fans(tmp_path):
    root = tmp_path / "images" / "cat"
    png(root / "good.png")
    for level in range(20):
        (root / f"{level}").mkdir()
        for link in range(4):
            (root / f"{level}" / f"link{link}").symlink_to(root / f"{(level + 1) % 20}")
        (root / f"{level}" / "up").symlink_to(root)
    card = prepared("d", "source", "folder", str(tmp_path / "images"))
    assert (card["status"], len(card["images"])) == ("ok", 1)


def test_the_limit_of_text_is_what_tables_are_read_by():
    assert files.read_text.__kwdefaults__ == files.read_parquet.__kwdefaults__ == {"most": MOST_TEXT}
