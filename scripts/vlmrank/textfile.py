"""Read text files that a person wrote; every way in which one can be unreadable has its message."""

from __future__ import annotations

import os

from vlmrank import files
from vlmrank.errors import VlmrankError

_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00")  # UTF-16 with a mark, UTF-32


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; every line ends in a newline alone.

    Raises
    ------
    VlmrankError : missing, no regular file, too large, not UTF-8 (with the line), a NUL character (with the line).
    """
    try:
        text = files.read_text(path)
    except FileNotFoundError as error:
        raise VlmrankError(f"{path} cannot be read: the file does not exist") from error
    except UnicodeDecodeError as error:
        if error.object.startswith(_MARKS):
            raise VlmrankError(f"{path} cannot be read: it is text in UTF-16 or UTF-32; save it as UTF-8") from error
        line = error.object.count(b"\n", 0, error.start) + 1
        raise VlmrankError(
            f"{path}, line {line}: the byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    except (OSError, ValueError) as error:
        raise VlmrankError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise VlmrankError(f"{path}, line {line}: there is a NUL character; take it out, or save the file as UTF-8")
    return text


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of such a file. Only line ends divide lines: a form feed or U+2028 is a character like any other."""
    return read_text(path).split("\n")
