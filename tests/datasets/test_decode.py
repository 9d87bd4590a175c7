"""Images of every odd kind are read right, or refused with a reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vlmrank.datasets.decode import ImageError, open_image, read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(image, path, **options):
    image.save(path, **options)
    return open_image(path)


def colour(image, x, y, expected, tolerance=2):
    assert image.mode == "RGB"
    np.testing.assert_allclose(image.getpixel((x, y)), expected, atol=tolerance)


def halves(mode="RGB", left=RED, right=BLUE):
    image = Image.new("RGB", (40, 20), left)
    ImageDraw.Draw(image).rectangle([20, 0, 39, 19], fill=right)
    return image.convert(mode)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm", "gif", "tga"])
def test_plain_formats(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    image = saved(halves(), tmp_path / f"a.{suffix}", **options)
    colour(image, 5, 5, RED)
    colour(image, 35, 5, BLUE)


def test_bytes_and_path_give_the_same(tmp_path):
    path = tmp_path / "a.png"
    halves().save(path)
    assert open_image(path).tobytes() == open_image(path.read_bytes()).tobytes() == open_image(str(path)).tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bit_greyscale_keeps_its_greys(tmp_path, mode):
    values = np.array([[0, 257 * 100, 65535]], ">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (3, 1), values.tobytes())
    found = saved(image, tmp_path / "a.tiff")
    assert [found.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


def test_16_bit_png_keeps_its_greys(tmp_path):
    values = np.array([[0, 257 * 7, 257 * 200, 65535]], np.uint16)
    found = saved(Image.fromarray(values), tmp_path / "a.png")
    assert [found.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 7, 200, 255)]


def _png(width, height, depth, kind, rows):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_colour_png():
    row = b"\x00" + struct.pack(">6H", 65535, 0, 0, 0, 257 * 128, 65535)
    found = open_image(_png(2, 1, 16, 2, row))
    colour(found, 0, 0, RED)
    colour(found, 1, 0, (0, 128, 255))


def test_decimal_numbers_from_0_to_1(tmp_path):
    found = saved(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), tmp_path / "a.tiff")
    assert [found.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0.0, 0.5, 1.0001]], np.float32),
        np.array([[0.0, 128.0, 255.0]], np.float32),
        np.array([[-3.0, 0.0, 3.0]], np.float32),
        np.array([[0, 100, 255]], np.int32),
        np.array([[0, 70_000, 3]], np.int32),
    ],
)
def test_a_brightness_whose_white_cannot_be_told_is_refused(tmp_path, values):
    with pytest.raises(ImageError, match="does not say which of them is white: save it with 8 or 16 bits"):
        saved(Image.fromarray(values), tmp_path / "a.tiff")


def test_16_bit_pgm_keeps_its_greys():
    found = open_image(b"P5 3 1 65535\n" + np.array([0, 257 * 100, 65535], ">u2").tobytes())
    assert [found.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


def test_float_with_nan_is_refused(tmp_path):
    with pytest.raises(ImageError, match="not finite"):
        saved(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), tmp_path / "a.tiff")


def test_cmyk_jpeg_and_tiff(tmp_path):
    for name, options in (("a.jpg", {"quality": 95}), ("a.tiff", {})):
        found = saved(halves("CMYK"), tmp_path / name, **options)
        colour(found, 5, 5, RED, tolerance=6)
        colour(found, 35, 5, BLUE, tolerance=6)


def test_lab_tiff(tmp_path):
    lab = Image.new("LAB", (4, 4), (255, 128, 128))
    colour(saved(lab, tmp_path / "a.tiff"), 1, 1, WHITE, tolerance=4)


def test_palette_with_transparency_is_seen_on_white(tmp_path):
    image = halves("P")
    image.info["transparency"] = image.getpixel((0, 0))
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    found = open_image(tmp_path / "a.png")
    colour(found, 5, 5, WHITE)
    colour(found, 35, 5, BLUE)


def test_transparent_and_half_transparent_pixels_are_seen_on_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (*BLUE, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    found = saved(image, tmp_path / "a.png")
    colour(found, 0, 0, RED)
    colour(found, 1, 0, WHITE)
    colour(found, 2, 0, (127, 127, 127))


def test_transparent_grey(tmp_path):
    image = Image.new("LA", (2, 1), (10, 255))
    image.putpixel((1, 0), (10, 0))
    found = saved(image, tmp_path / "a.png")
    colour(found, 0, 0, (10, 10, 10))
    colour(found, 1, 0, WHITE)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), shade) for shade in (RED, GREEN, BLUE)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    colour(open_image(tmp_path / f"a.{suffix}"), 4, 4, RED)


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (39, 19)), (6, (19, 0)), (8, (0, 39))])
def test_exif_orientation(tmp_path, orientation, corner):
    image = Image.new("RGB", (40, 20), BLUE)
    ImageDraw.Draw(image).rectangle([0, 0, 7, 7], fill=RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = saved(image, tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    assert found.size == ((40, 20) if orientation in (1, 3) else (20, 40))
    x, y = corner
    colour(found, min(max(x, 2), found.width - 3), min(max(y, 2), found.height - 3), RED, tolerance=12)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_greyscale_and_bitmap(tmp_path, mode):
    image = halves("RGB", left=(255, 255, 255), right=(0, 0, 0)).convert(mode)
    found = saved(image, tmp_path / "a.png")
    colour(found, 5, 5, WHITE)
    colour(found, 35, 5, (0, 0, 0))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    rng = np.random.default_rng(0)
    whole = io.BytesIO()
    image = Image.fromarray(rng.integers(0, 255, (90, 90, 3), np.uint8))
    image.save(whole, {"jpg": "jpeg"}.get(suffix, suffix))
    for share in (0.5, 0.01, 0.0):
        path = tmp_path / f"{share}.{suffix}"
        path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
        with pytest.raises(ImageError):
            open_image(path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(ImageError, match="it has 900 million pixels, more than the 179 million"):
        open_image(_png(30_000, 30_000, 8, 0, b""))


def test_a_large_image_below_the_limit_is_read():
    found = open_image(_png(12_000, 10_000, 1, 0, (b"\x00" + b"\xff" * 1500) * 10_000))
    assert found.size == (12_000, 10_000)


def test_an_endless_strip_is_refused(tmp_path):
    with pytest.raises(ImageError, match="20000 x 1"):
        saved(Image.new("RGB", (20_000, 1)), tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"\0" * 50, b"GIF89a"])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        open_image(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        open_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError):
        open_image(tmp_path)


def test_reasons_are_one_line_without_the_name(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(_png(9, 9, 8, 2, b"short"))
    with pytest.raises(ImageError) as error:
        open_image(path)
    assert "\n" not in str(error.value)


def test_an_image_inside_a_larger_file(tmp_path):
    whole = io.BytesIO()
    halves().save(whole, "png")
    path = tmp_path / "archive"
    path.write_bytes(b"before" + whole.getvalue() + b"after")
    place = {"path": str(path), "offset": 6, "size": len(whole.getvalue())}
    colour(read_image(place), 5, 5, RED)
    with pytest.raises(ImageError, match="ends before"):
        read_image({**place, "size": 10**6})


# --- reports of others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation):
    from PIL import ImageOps

    whole, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (5, 9, 3), np.uint8)
    Image.fromarray(pixels).save(whole, "PNG", exif=exif)
    with Image.open(io.BytesIO(whole.getvalue())) as image:
        expected = ImageOps.exif_transpose(image)
    assert open_image(whole.getvalue()).tobytes() == expected.tobytes()


def test_exif_with_a_fraction_by_zero_is_turned_all_the_same():
    """python-pillow/Pillow#8605: a telephone's 0/0 lets `exif_transpose` divide by zero."""
    entries = struct.pack("<HHHIHH", 2, 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 5, 1, 38)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries + bytes(4) + struct.pack("<II", 0, 0)
    whole = io.BytesIO()
    halves().save(whole, "JPEG", exif=exif)
    assert open_image(whole.getvalue()).size == (20, 40)


def test_a_tiff_palette_of_8_bits_is_not_black(tmp_path):
    """python-pillow/Pillow#2157: colours from 0 to 255 where TIFF has 0 to 65535."""
    halves("P").save(tmp_path / "a.tiff")
    content = bytearray((tmp_path / "a.tiff").read_bytes())
    with Image.open(tmp_path / "a.tiff") as image:
        colours = image.tag_v2[320]
    old = struct.pack(f"<{len(colours)}H", *colours)
    assert old in content
    content = content.replace(old, struct.pack(f"<{len(colours)}H", *(value // 256 for value in colours)))
    colour(open_image(bytes(content)), 5, 5, RED)
    colour(open_image(bytes(content)), 35, 5, BLUE)


def test_16_bit_colour_tiff_with_a_fourth_channel(tmp_path):
    """python-pillow/Pillow#5248: an astronomer's TIFF opens as RGBX."""
    image = Image.new("RGBX", (4, 4), (255, 0, 0, 255))
    image.save(tmp_path / "a.tiff")
    colour(open_image(tmp_path / "a.tiff"), 1, 1, RED)
