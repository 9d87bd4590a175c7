"""Download a file from a URL, complete and checked.

Why not pooch: it compares full hashes only, while OpenCLIP's URLs hold the first digits, and it accepts the web page of
a consent form as the file.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vlmrank.errors import RUN_AGAIN, VlmrankError
from vlmrank.store.file_hashes import FileHashes
from vlmrank.store.files import atomic

TIMEOUT = 60.0  # seconds that a server may be silent
BLOCK = 1 << 20


class DownloadError(VlmrankError):
    """A download failed; the message says why and what to do."""


class MissingFileError(DownloadError):
    """The server answers, but does not have the file."""


def no_network(what: str, error: BaseException | None = None) -> str:
    """The message for a machine without network access."""
    cause = f" ({type(error).__name__})" if error else ""
    return (
        f"{what} must be downloaded, but there is no network access{cause}. Run the fetch rules where there "
        f"is (`snakemake --until fetch_model`), with the same cache, or copy the cache here; then {RUN_AGAIN}"
    )


def refused(what: str, status: int) -> DownloadError:
    """The error for a server that answers without the file."""
    if status in (404, 410):
        return MissingFileError(f"{what} does not exist on its server ({status}): check the address or the name")
    if status in (401, 403):
        return DownloadError(
            f"{what} is not given to everybody ({status}): accept its terms or log in there (HF_TOKEN, for the hub), "
            "or download it by hand and name the file instead"
        )
    return DownloadError(f"{what} cannot be downloaded now, its server answers {status}; {RUN_AGAIN} later")


def silent(what: str) -> DownloadError:
    """The error for a server that stopped answering."""
    return DownloadError(f"{what}: the server did not answer within {TIMEOUT:g} s; {RUN_AGAIN} later")


def known_sha256(url: str) -> str:
    """First digits of a file's hash, if its URL holds them, as OpenAI's and OpenCLIP's do.

    Examples
    --------
    >>> known_sha256("https://example.org/clip/" + "4" * 64 + "/ViT-B-32.pt") == "4" * 64
    True
    >>> known_sha256("https://github.com/mlfoundations/open_clip/releases/download/v0.2/rn50-yfcc15m-455df137.pt")
    '455df137'
    >>> known_sha256("https://example.org/weights.pt")
    ''
    """
    found = re.search(r"/([0-9a-f]{64})/[^/]+$", url) or re.search(r"-([0-9a-f]{8})\.(?:pt|pth|bin|safetensors)$", url)
    return found[1] if found else ""


def url_file(
    url: str, *, cache: str | os.PathLike[str], offline: bool = False, sha256: str = "", afresh: bool = False
) -> Path:
    """Path of a file in the cache folder, downloaded completely and checked if need be.

    A cached file that is a web page or has another hash is dropped and downloaded once more.

    Parameters
    ----------
    url : its address; the last part is its name.
    cache : folder of downloads.
    offline : stay off the network.
    sha256 : first digits of the file's hash, if known; else those in the URL.
    afresh : drop the cached file.

    Raises
    ------
    MissingFileError : the server, or the cache if `offline`, does not have it.
    DownloadError : no network, no access, a web page, fewer bytes than announced, another hash, a silent server.
    """
    target = Path(cache) / unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    sha256 = sha256 or known_sha256(url)
    if target.is_file() and not (afresh and not offline):
        fault = _fault_of(target, cache, sha256)
        if not fault or offline:
            if fault:
                raise DownloadError(f"{target} {fault}: download it again (rule fetch_model)")
            return target
    if offline:
        raise MissingFileError(f"{target.name} is not in the cache {cache}: download it first (rule fetch_model)")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as source, atomic(target) as partial:
            _receive(url, source, partial, sha256)
    except urllib.error.HTTPError as error:
        raise refused(url, error.code) from error
    except (TimeoutError, urllib.error.URLError) as error:
        if isinstance(error, TimeoutError) or isinstance(error.reason, TimeoutError):
            raise silent(url) from error
        raise DownloadError(no_network(url, error)) from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise DownloadError(f"{url}: the server broke off ({type(error).__name__}): not kept; {RUN_AGAIN}") from error
    return target


def _receive(url: str, source, partial: Path, sha256: str) -> None:
    announced, digest, size = source.headers.get("Content-Length"), hashlib.sha256(), 0
    with partial.open("wb") as file:
        while block := source.read(BLOCK):
            size += len(block)
            digest.update(block)
            file.write(block)
    if announced and announced.isdigit() and size != int(announced):
        raise DownloadError(f"{url}: the server announced {announced} bytes and sent {size}: not kept; {RUN_AGAIN}")
    if is_web_page(partial):
        raise DownloadError(
            f"{url} is a web page, not a file, perhaps one that asks for consent: not kept. Open it in a browser, "
            "download the file by hand, and name that instead"
        )
    if not digest.hexdigest().startswith(sha256):
        raise DownloadError(
            f"{url} has the sha256 {digest.hexdigest()[:16]}..., expected {sha256[:16]}...: not kept; {RUN_AGAIN}"
        )


def is_web_page(path: Path) -> bool:
    """Whether a file starts as HTML does."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _fault_of(path: Path, cache: str | os.PathLike[str], sha256: str) -> str:
    """The fault of a cached file, or an empty text."""
    if is_web_page(path):
        return "is a web page"
    if not sha256:
        return ""
    hashes = FileHashes(cache, path)
    found = hashes.sha256(path)
    hashes.keep()
    return "" if found.startswith(sha256) else f"has the sha256 {found[:16]}..., expected {sha256[:16]}..."
