"""Files that are no images are called by their names, and broken metadata costs no pixels."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from vlmrank.datasets.decode import ImageError, open_image
from vlmrank.datasets.image_bytes import foreign_format

FOREIGN = {
    "HEIC": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "a HEIC image, as telephones write them: convert it to JPEG or PNG",
    ),
    "JXL": (b"\xff\x0a\xfa\x1f" + bytes(40), "a JPEG XL image: convert"),
    "JXL container": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image: convert"),
    "SVG": (b'<?xml version="1.0"?>\n<svg width="9"></svg>', "an SVG drawing: convert"),
    "bare SVG": (b"\xef\xbb\xbf <svg></svg>", "an SVG drawing: convert"),
    "PDF": (b"%PDF-1.7\n", "a PDF document: convert"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0", "a PostScript drawing, which is never opened"),
    "CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(20), "a raw photograph (CR2)"),
    "MP4": (b"\0\0\0\x18ftypisom" + bytes(8), "a video"),
    "HTML": (b"<!DOCTYPE html><html>404</html>", "a web page and not the image: download it again"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "zip": (b"PK\x03\x04" + bytes(20), "a zip archive: unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "a gzip file: unpack it"),
    "DICOM": (bytes(128) + b"DICM", "a DICOM image"),
    "numpy": (b"\x93NUMPY\x01\0", "a NumPy array"),
    "zeros": (bytes(4000), "empty: copy or download it again"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize(("content", "words"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_image_is_called_by_its_name(content, words):
    with pytest.raises(ImageError, match=r"^it is ") as error:
        open_image(content)
    assert words in str(error.value)
    assert words in foreign_format(content)


def png(*extra, before=True, broken=False):
    """A red PNG with chunks before or after its pixels."""
    whole = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(whole, "PNG")
    content, out, at = whole.getvalue(), [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        out.append(content[at : at + 12 + size])
        at += 12 + size
    added = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ broken)
        for name, data in extra
    ]
    place = 1 if before else len(out) - 1
    return content[:8] + b"".join(out[:place] + added + out[place:])


CHUNKS = [
    (b"tEXt", b"a\0b"),
    (b"zTXt", b"a\0\0no zlib"),
    (b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))),
    (b"iTXt", b"a\0\1\0\0\0no zlib"),
    (b"eXIf", b"no EXIF"),
    (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
    (b"iCCP", b"x\0\0no profile"),
    (b"gAMA", b"\0"),
    (b"pHYs", b"1"),
    (b"tIME", b"1"),
]


@pytest.mark.parametrize("broken", [False, True], ids=["sum", "no sum"])
@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
@pytest.mark.parametrize(("name", "data"), CHUNKS)
def test_broken_metadata_of_a_png_costs_no_pixels(name, data, before, broken):
    found = open_image(png((name, data), before=before, broken=broken))
    assert (found.size, found.getpixel((3, 3))) == ((40, 20), (255, 0, 0))


def test_pixels_whose_sum_is_wrong_are_still_refused():
    content = bytearray(png())
    content[content.index(b"IDAT") + 6] ^= 1
    with pytest.raises(ImageError):
        open_image(bytes(content))


def webp(**options):
    whole = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(whole, "WEBP", lossless=True, **options)
    return whole.getvalue()


def longer(content):
    at = content.index(b"EXIF")
    return content[: at + 4] + struct.pack("<I", 10**6) + content[at + 8 :]


@pytest.mark.parametrize(
    "content",
    [
        webp(exif=b"no EXIF"),
        webp(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
        longer(webp(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")),
        webp(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")[:-6],
        webp(xmp=b"<x"),
        webp(icc_profile=b"no profile"),
    ],
)
def test_broken_metadata_of_a_webp_costs_no_pixels(content):
    found = open_image(content)
    assert (found.size, found.getpixel((3, 3))) == ((40, 20), (255, 0, 0))


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("name", ["JPEG", "AVIF"])
def test_broken_exif_says_nothing_about_the_orientation(name, exif):
    whole = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(whole, name, exif=exif)
    assert open_image(whole.getvalue()).size == (40, 20)


def test_the_thumbnail_of_a_raw_photograph_is_not_taken_for_it(tmp_path):
    for tag, value in ((254, 1), (50706, b"\x01\x04\0\0")):
        Image.new("RGB", (16, 12)).save(tmp_path / "a.dng", "TIFF", tiffinfo={tag: value})
        with pytest.raises(ImageError, match="it is a raw photograph: convert it"):
            open_image(tmp_path / "a.dng")
