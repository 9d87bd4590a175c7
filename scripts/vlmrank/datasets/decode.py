"""Decode one image file into 8-bit RGB, or say in one line why it cannot be read."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from vlmrank.datasets.image_bytes import foreign_format, without_metadata
from vlmrank.errors import RUN_AGAIN, SINCE_PREPARED, VlmrankError
from vlmrank.files import MOST_IMAGE, MOST_TAR, RefusedFileError, open_regular, read_regular, size_of

# Formats that are decoded, recognised by content. Pillow knows more; for EPS it would start Ghostscript on the file.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "PSD", "SGI", "PCX"),
    *("DDS", "TGA"),
)
ORIENTATION, NEW_SUBFILE, COLOUR_MAP, DNG_VERSION = 274, 254, 320, 50706  # tags of TIFF and EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_ASPECT = 500  # beyond this ratio of sides an image is refused: resizing it would fill the memory
IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", "tif", "tiff", "ppm", "pgm", "pbm"),
        *("pnm", "ico", "tga", "jp2", "j2k", "jpx", "avif", "heic", "heif", "jxl", "psd", "sgi", "pcx", "dds", "dng"),
        *("cr2", "nef", "arw"),
    )
)


class ImageError(VlmrankError):
    """An image that cannot be used; the message is the reason, without the image's name."""


class ChangedImageError(ImageError):
    """The image has changed since it was hashed when the dataset was prepared."""


def is_image_name(name: str) -> bool:
    """Whether a file name counts as an image: a known suffix or none; hidden files do not.

    Examples
    --------
    >>> [is_image_name(name) for name in ("a.JPG", "scan", "notes.txt", ".DS_Store")]
    [True, True, False, False]
    """
    suffix = Path(name).suffix.lower()
    return not name.startswith(".") and (suffix in IMAGE_SUFFIXES or suffix == "")


def _scaled(image: Image.Image) -> Image.Image:
    """Scale greyscale of more than 8 bits to 0..255, by one rule for all images; Pillow would clip it to white."""
    values = np.asarray(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):  # Pillow fills 16 bits
        return Image.fromarray(np.round(values / np.float32(257)).astype(np.uint8))
    if not np.isfinite(values).all():
        raise ImageError("it has pixels that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        return Image.fromarray(np.round(values * np.float32(255)).astype(np.uint8))
    kind, read = ("decimal numbers", "only 0 to 1 is") if image.mode == "F" else ("32-bit integers", "they are not")
    raise ImageError(
        f"its brightness is given in {kind} from {low:g} to {high:g}; {read} read, since the file does not say which "
        "of them is white: save it with 8 or 16 bits"
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _scaled(image)
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return ImageCms.applyTransform(image, transform)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def forget_other_formats() -> None:
    """Restrict Pillow to `FORMATS` in this process, also when another library opens images."""
    for name in set(Image.OPEN) - set(_formats()):
        del Image.OPEN[name]
    Image.ID[:] = [name for name in Image.ID if name in Image.OPEN]


def open_image(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Decode an image completely into RGB, as a person would see it.

    Animations give their first frame. The EXIF orientation is applied. Greyscale of 16 bits is scaled by its full range
    (65535 is white), floating point from 0 (black) to 1 (white). Transparent parts are put on white. CMYK, Lab and
    palettes are converted. Broken metadata is ignored if the pixels are fine.

    Parameters
    ----------
    source : path of the file, or its content.

    Returns
    -------
    PIL image of mode RGB, fully decoded.

    Raises
    ------
    ImageError : missing, not an image, truncated, of unknown brightness range, or too large to decode (Pillow's limit
        of 179 million pixels, or sides beyond 1 : 500).
    """
    try:
        content = source if isinstance(source, bytes) else read_regular(source, most=MOST_IMAGE)
    except FileNotFoundError as error:
        raise ImageError("the file does not exist") from error
    except RefusedFileError as error:
        raise ImageError(f"it {error.fault}") from error
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror or error})") from error
    try:
        return _decode(content)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(error) from error
    except MemoryError as error:
        raise ImageError(f"there is not enough memory to decode it; {RUN_AGAIN}") from error
    except Exception as error:  # Pillow's decoders raise many kinds of errors for broken files
        plain = without_metadata(content)
        if plain is not None:
            with contextlib.suppress(Exception):
                return _decode(plain)
        raise _unreadable(content, error) from error


def _decode(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns at half of its limit, and about odd metadata
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            short, long = sorted(image.size)
            if short < 1 or long > MAX_ASPECT * short:
                raise ImageError(f"its sides are {image.width} x {image.height}: too long for its width")
            if image.format == "TIFF" and (image.tag_v2.get(NEW_SUBFILE) == 1 or DNG_VERSION in image.tag_v2):
                raise ImageError("it is a raw photograph: convert it to JPEG or PNG")  # this would be its thumbnail
            image.load()
            turned = _turned(_with_palette(image))
            turned.format = image.format
            return _to_rgb(turned)


def _turned(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; Pillow's own function fails on EXIF that it cannot write again."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # unreadable EXIF gives no orientation
        turn = None
    return image if turn is None else image.transpose(turn)


def _with_palette(image: Image.Image) -> Image.Image:
    """Restore the colours of a TIFF whose palette was written with 8 bits instead of 16 and would be black."""
    colours = image.tag_v2.get(COLOUR_MAP) if image.format == "TIFF" and image.mode == "P" else None
    if colours and max(colours) < 256:
        count = len(colours) // 3
        image.putpalette([colours[part * count + index] for index in range(count) for part in range(3)])
    return image


def _unreadable(content: bytes, error: Exception) -> ImageError:
    known = foreign_format(content)
    if known:
        return ImageError(f"it is {known}")
    if isinstance(error, Image.UnidentifiedImageError):
        return ImageError("it is not an image that can be read (unknown or broken format)")
    return ImageError(f"it cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})")


def _too_large(error: Image.DecompressionBombError) -> ImageError:
    pixels = re.search(r"\d+", str(error))
    size = f"{int(pixels[0]) / 1e6:,.0f}" if pixels else "too many"
    return ImageError(f"it has {size} million pixels, more than the 179 million that are decoded")


def read_bytes(record: Mapping[str, Any]) -> bytes:
    """Bytes of an image by its record: all of `path`, or `size` bytes from `offset` (inside a tar).

    Raises
    ------
    ImageError : the file is not there or not readable.
    """
    if (record.get("size") or 0) > MOST_IMAGE:
        raise ImageError(f"it has {size_of(record['size'])}, more than the {size_of(MOST_IMAGE)} that are read")
    # An image that was readable when the dataset was prepared may come back.
    again = f"; {RUN_AGAIN}" if record.get("sha256") else ""
    try:
        if record.get("size") is None:
            return read_regular(record["path"], most=MOST_IMAGE)
        with open_regular(record["path"], most=MOST_TAR) as file:
            file.seek(record["offset"])
            content = file.read(record["size"])
    except RefusedFileError as error:
        raise ImageError(f"it {error.fault}") from error
    except FileNotFoundError as error:
        raise ImageError(f"the file does not exist{again}") from error
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror or error}); {RUN_AGAIN}") from error
    if len(content) < record["size"]:
        raise ImageError(f"the tar file ends before the image does{again}")
    return content


def pixels_sha256(image: Image.Image) -> str:
    """SHA-256 of an image's size and pixels, for images that have no file of their own."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def read_image(record: Mapping[str, Any]) -> Image.Image:
    """Decode the image of a record of a dataset card, wherever it is kept.

    Parameters
    ----------
    record : `path`; with `offset` and `size` inside a tar file; with `torchvision` (name and split) and `index`
        inside a torchvision dataset whose root is `path`. With `sha256`, the decoded bytes (the pixels, in a
        torchvision dataset) must have this hash.

    Raises
    ------
    ChangedImageError : they have another hash.
    ImageError : as `open_image`.
    """
    if record.get("torchvision"):
        image = _torchvision_image(record)
        _check_hash(record, pixels_sha256(image) if record.get("sha256") else "")
        return image
    content = read_bytes(record)
    if record.get("sha256") == "":
        raise ImageError(f"it could not be read when {SINCE_PREPARED}; {RUN_AGAIN}")
    _check_hash(record, hashlib.sha256(content).hexdigest() if record.get("sha256") else "")
    return open_image(content)


def _check_hash(record: Mapping[str, Any], found: str) -> None:
    if record.get("sha256") and record["sha256"] != found:
        raise ChangedImageError(f"it has changed since {SINCE_PREPARED}; {RUN_AGAIN}")


def _torchvision_image(record: Mapping[str, Any]) -> Image.Image:
    from vlmrank.datasets.torchvision import open_torchvision

    forget_other_formats()  # torchvision opens the images itself
    try:
        dataset = open_torchvision(record["torchvision"], record["path"], download=False)
        image = dataset[record["index"]][0]
    except VlmrankError as error:
        raise ImageError(str(error)) from error
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        raise ImageError(f"torchvision cannot read it ({error})") from error
    except Image.DecompressionBombError as error:
        raise _too_large(error) from error
    return _to_rgb(image)
