"""Download files from the Hugging Face hub into one cache folder; keep libraries offline."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from vlmrank.models.download import DownloadError, MissingFileError, no_network, refused, silent


class HubError(DownloadError):
    """A download from the hub failed: no network, no such repository, no access."""


@contextlib.contextmanager
def hub_cache(cache: str | os.PathLike[str] | None, *, offline: bool) -> Iterator[str | None]:
    """Make every library in the block keep hub files below `cache` and, if `offline`, stay off the network.

    The libraries read these settings from the environment when they are imported, and from the hub library's constants
    afterwards, so both are set, and restored afterwards.
    """
    from huggingface_hub import constants

    folder = str(cache) if cache else None
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if offline else {}
    values: dict[str, object] = {"HF_HUB_OFFLINE": True} if offline else {}
    if folder:
        environment |= {"HF_HUB_CACHE": folder}
        values |= {"HF_HUB_CACHE": folder}
    before = {name: os.environ.get(name) for name in environment}
    constants_before = {name: getattr(constants, name) for name in values}
    os.environ.update(environment)
    for name, value in values.items():
        setattr(constants, name, value)
    try:
        yield folder
    finally:
        for name, value in constants_before.items():
            setattr(constants, name, value)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@functools.cache
def hub_is_reachable(timeout: float = 5.0) -> bool:
    """Whether a connection to the hub can be opened; checked once per process, since its library would try six times.

    Behind a proxy the answer is yes, since only the proxy knows.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(name in urllib.request.getproxies() for name in ("https", "all")):
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        with socket.create_connection((address.hostname or "", port), timeout=timeout):
            return True
    except OSError:
        return False


def hub_file(
    repository: str,
    filename: str,
    *,
    cache: str | os.PathLike[str] | None,
    offline: bool = False,
    kind: str = "model",
    revision: str | None = None,
    afresh: bool = False,
) -> Path:
    """Path of a hub file in the cache, downloaded if need be; `afresh` drops the cached file.

    Raises
    ------
    MissingFileError : the repository does not have it.
    HubError : no network, no such repository, or no access; says what to do.
    """
    from huggingface_hub import errors, hf_hub_download

    local = offline or not hub_is_reachable()
    try:
        with hub_cache(cache, offline=local):
            path = hf_hub_download(
                repository,
                filename,
                cache_dir=cache,
                repo_type=kind,
                revision=revision,
                local_files_only=local,
                force_download=afresh and not local,
            )
    except errors.LocalEntryNotFoundError as error:
        if offline:
            message = f"{filename} of {repository} is not in the cache {cache}"
            raise MissingFileError(f"{message}: download it first (rule fetch_model)") from error
        raise _answered(repository, error) or HubError(no_network(repository)) from error
    except errors.EntryNotFoundError as error:
        raise MissingFileError(f"{repository} on the hub has no file {filename}") from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"{repository} on the hub asks for consent: accept its terms there and set HF_TOKEN, or take it out"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise HubError(f"the hub has no public repository {repository!r}: check the name, or set HF_TOKEN") from error
    except Exception as error:  # the hub's HTTP library raises its own classes
        raise _answered(repository, error) or HubError(no_network(repository, error)) from error
    return Path(path)


def _answered(repository: str, error: BaseException | None) -> DownloadError | None:
    """The error for a server that refused or stopped answering, by the cause of `error`; None if none was reached."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return refused(f"{repository} on the hub", status)
        if "Timeout" in type(error).__name__ and "Connect" not in type(error).__name__:
            return silent(f"{repository} on the hub")
        error = error.__cause__ or error.__context__
    return None


def revision_of(path: Path) -> str:
    """Commit that a file of the hub's cache belongs to, empty for other files.

    Examples
    --------
    >>> revision_of(Path("cache/models--org--name/snapshots/0123abcd/file.bin")), revision_of(Path("file.bin"))
    ('0123abcd', '')
    """
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-2] else ""


def is_in_cache(repository: str, filename: str, *, cache: str | os.PathLike[str] | None) -> Path | None:
    """Path of a hub file that the cache holds already, else None; never asks the network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, filename, cache_dir=cache)
    return Path(found) if isinstance(found, str) else None


def fetch_tar_set(name: str, cache: str | os.PathLike[str] | None) -> tuple[list[str], Path]:
    """Download a clip-benchmark tar set: `org/name`, `org/name/split` or `org/name/split/{0..3}.tar`.

    Returns
    -------
    The tar files in order, and the folder with `classnames.txt` and similar files.

    Raises
    ------
    HubError : no network, no such set.
    """
    parts = name.strip("/").split("/")
    if len(parts) < 2:
        raise HubError(f"hf-hub:{name}: write hf-hub:<organisation>/<name>/<split>")
    repository, split = "/".join(parts[:2]), parts[2] if len(parts) > 2 else "test"
    shards = _numbers(parts[3]) if len(parts) > 3 else None
    if shards is None:
        count = hub_file(repository, f"{split}/nshards.txt", cache=cache, kind="dataset").read_text().strip()
        if not count.isdigit():
            raise HubError(f"{repository}: {split}/nshards.txt reads {count!r}, not a number")
        shards = range(int(count))
    files = [str(hub_file(repository, f"{split}/{shard}.tar", cache=cache, kind="dataset")) for shard in shards]
    for optional in ("classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt"):
        _optional_file(repository, optional, cache)
    return files, Path(files[0]).parent.parent if files else Path()


def _optional_file(repository: str, filename: str, cache: str | os.PathLike[str] | None) -> None:
    """Download an optional file of a tar set; if it is known to be absent, the network is not used."""
    from huggingface_hub import try_to_load_from_cache

    known = try_to_load_from_cache(repository, filename, cache_dir=cache, repo_type="dataset")
    if known is not None or not hub_is_reachable():  # a path, or the marker of a file that is known to be absent
        return
    with contextlib.suppress(MissingFileError):
        hub_file(repository, filename, cache=cache, kind="dataset")


def _numbers(pattern: str) -> list[int]:
    match = re.fullmatch(r"\{?(\d+)(?:\.\.(\d+))?\}?\.tar", pattern)
    if match is None:
        raise HubError(f"{pattern!r} names no tar files: write 0.tar or {{0..3}}.tar")
    return list(range(int(match[1]), int(match[2] or match[1]) + 1))
