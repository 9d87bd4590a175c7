"""Recognise image formats by their first bytes, without decoding; hash pixels without metadata."""

from __future__ import annotations

import struct

PNG, RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
PNG_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # colour profile, EXIF, XMP
CONVERT = "convert it to JPEG or PNG"
SIGNATURES = (
    (0, b"\xff\x0a", "a JPEG XL image", CONVERT),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image", CONVERT),
    (0, b"%PDF", "a PDF document", CONVERT),
    (0, b"%!PS", "a PostScript drawing, which is never opened", CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript drawing, which is never opened", CONVERT),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile", CONVERT),
    (0, b"II*\x00\x10\x00\x00\x00CR", "a raw photograph (CR2)", CONVERT),
    (128, b"DICM", "a DICOM image", CONVERT),
    (0, b"SIMPLE  =", "a FITS image", CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", CONVERT),
    (0, b"\x89HDF", "an HDF5 file", "take the images out of it"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it"),
    (0, b"Rar!", "a RAR archive", "unpack it"),
    (0, b"\x1aE\xdf\xa3", "a video", "take single frames out of it"),
    (0, b"version https://git-lfs", "a Git LFS pointer and not the image", "run `git lfs pull`"),
)
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1")
VIDEO_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ")


def foreign_format(content: bytes) -> str:
    """Name a file format that is not supported, and say what to do; empty if unknown.

    Examples
    --------
    >>> foreign_format(b"%PDF-1.7"), foreign_format(b"?")
    ('a PDF document: convert it to JPEG or PNG', '')
    """
    if content[4:8] == b"ftyp":
        if content[8:12] in HEIF_BRANDS:
            return f"a HEIC image, as telephones write them: {CONVERT}"
        if content[8:12] in VIDEO_BRANDS:
            return "a video: take single frames out of it"
    for start, signature, name, advice in SIGNATURES:
        if content[start : start + len(signature)] == signature:
            return f"{name}: {advice}"
    text = content[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in text:
        return f"an SVG drawing: {CONVERT}"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page and not the image: download it again"
    if not content.strip(b"\0"):
        return "empty: copy or download it again"
    return ""


def without_metadata(content: bytes) -> bytes | None:
    """A PNG or WebP without metadata, None for other formats."""
    if content.startswith(PNG):
        return PNG + b"".join(whole for name, whole in _png_chunks(content) if name in PNG_PIXELS)
    if content.startswith(RIFF) and content[8:12] == b"WEBP":
        return _plain_webp(content)
    return None


def _png_chunks(content: bytes):
    at = len(PNG)
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], content[at : at + 12 + size]
        at += 12 + size


def _plain_webp(content: bytes) -> bytes:
    parts, at = [], 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        whole = content[at : at + 8 + size + size % 2]
        if name == b"VP8X" and size:
            whole = whole[:8] + bytes([whole[8] & ~WEBP_METADATA_FLAGS]) + whole[9:]
        if name in WEBP_PIXELS:
            parts.append(whole)
        at += 8 + size + size % 2
    body = b"WEBP" + b"".join(parts)
    return RIFF + struct.pack("<I", len(body)) + body
