"""Images that would start a program or fill the memory are refused wherever images are opened."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib

import pytest
from canary import program
from dataset_rows import prepared
from PIL import EpsImagePlugin, Image

from vlmrank.datasets import decode as images
from vlmrank.datasets.decode import ImageError, open_image
from vlmrank.datasets.prepare import load_images

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, canary, monkeypatch):
    """A program in Ghostscript's place."""
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", program(tmp_path / "gs", canary))


def good():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def png(width, height):
    """A PNG of any size in a hundred bytes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def folder(place, hostile):
    """A class folder with one good image and a hostile one."""
    (place / "cat").mkdir(parents=True)
    (place / "cat" / "good.png").write_bytes(good())
    (place / "cat" / "hostile.png").write_bytes(hostile)
    (place / "dog").mkdir()
    (place / "dog" / "good.png").write_bytes(good())
    return str(place)


def tars(place, hostile):
    """A tar set of one file, with the same two images."""
    (place / "test").mkdir(parents=True)
    with tarfile.open(place / "test" / "0.tar", "w") as tar:
        for name, content in (("a.png", good()), ("a.cls", b"0"), ("b.png", hostile), ("b.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (place / "classnames.txt").write_text("cat\ndog\n")
    return str(place)


@pytest.mark.parametrize(("kind", "make"), [("folder", folder), ("webdataset", tars)])
@pytest.mark.parametrize("as_test", [False, True], ids=["drawn", "measured"])
def test_postscript_under_the_name_of_a_png(tmp_path, ghostscript, canary, kind, make, as_test):
    place = make(tmp_path / "images", EPS)
    card = prepared("d", "source", kind, place, images=1 if as_test else 16)
    assert card["status"] == "ok"
    if as_test:
        for record in card["test"]:
            if "good" not in record["id"] and not record["id"].endswith("a"):
                with pytest.raises(ImageError):
                    images.read_image(record)
    else:
        assert [one["reason"].split(":")[0] for one in card["failed_images"]] == [
            "it is a PostScript drawing, which is never opened"
        ]
        load_images({**card, "images": card["images"] + card["test"]})


@pytest.mark.parametrize("wrap", [lambda path: path, lambda path: path.read_bytes()], ids=["path", "content"])
def test_postscript_itself(tmp_path, ghostscript, canary, wrap):
    path = tmp_path / "a.eps"
    path.write_bytes(EPS)
    with pytest.raises(ImageError):
        open_image(wrap(path))


def test_postscript_in_a_thumbnail(tmp_path, ghostscript, canary):
    from types import SimpleNamespace

    from vlmrank.report.images import Guesses, thumbnails

    path = tmp_path / "a.png"
    path.write_bytes(EPS)
    card = {"dataset": "t", "images": [{"id": "a.png", "path": str(path)}]}
    [found] = thumbnails(SimpleNamespace(targets=["t"], datasets=[card]), "t", Guesses())
    assert found["data"] == "" and "no picture" in found["reason"]


def test_postscript_among_torchvisions_files(tmp_path, ghostscript, canary, monkeypatch):
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))  # put back for the other tests
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    place = tmp_path / "cache" / "torchvision" / "country211" / "test" / "AD"
    place.mkdir(parents=True)
    (place / "0.jpg").write_bytes(good())
    (place / "1.jpg").write_bytes(EPS)
    card = prepared("d", "source", "torchvision", "Country211/test", cache=tmp_path / "cache")
    assert (card["status"], len(card["images"]), len(card["failed_images"])) == ("ok", 1, 1), card["reason"]


def test_a_torchvision_dataset_that_unpickles_a_file_of_its_folder(tmp_path, canary):
    card = prepared("d", "source", "torchvision", "LSUN/test", cache=tmp_path)
    assert "no dataset 'LSUN'" in card["reason"]


def test_every_format_that_is_not_on_the_list_is_refused(tmp_path, monkeypatch):
    Image.init()
    tried = []
    for name in set(Image.OPEN) - set(images.FORMATS):
        _, accept = Image.OPEN[name]
        monkeypatch.setitem(Image.OPEN, name, (lambda *_: tried.append(1), accept and (lambda prefix: True)))
    for content in (EPS, b"\xd7\xcd\xc6\x9a" + bytes(80), b"GRIB" + bytes(40), bytes(100)):
        with pytest.raises(ImageError):
            open_image(content)
    assert tried == []


@pytest.mark.parametrize(("kind", "make"), [("folder", folder), ("webdataset", tars)])
def test_a_decompression_bomb_is_refused_with_its_size(tmp_path, kind, make):
    card = prepared("d", "source", kind, make(tmp_path / "images", png(50_000, 50_000)), images=16)
    assert [one["reason"] for one in card["failed_images"]] == [
        "it has 2,500 million pixels, more than the 179 million that are decoded"
    ]
    assert len(json.loads(json.dumps(card))["images"]) == (2 if kind == "folder" else 1)


def test_an_image_file_of_a_terabyte_is_refused_with_its_size(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(good())
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="it has 1024 GiB, more than the 512 MiB that are read"):
        open_image(path)


def test_a_member_of_a_tar_that_claims_a_terabyte(tmp_path):
    place = tmp_path / "images"
    tars(place, b"")
    with (place / "test" / "0.tar").open("r+b") as file:
        content = bytearray(file.read())
        at = content.index(b"b.png")
        header = tarfile.TarInfo("b.png")
        header.size = 1 << 40
        content[at : at + 512] = header.tobuf()
        file.seek(0)
        file.write(content)
        file.truncate(2 << 40)
    card = prepared("d", "source", "webdataset", str(place), images=16)
    assert "more than the 512 MiB" in str(card["failed_images"]) + card["reason"], card
