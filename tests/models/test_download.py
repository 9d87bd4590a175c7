"""Each way a download can fail has its own sentence, and only what is whole and right is kept."""

from __future__ import annotations

import http.server
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
from tiny import TINY, tiny_state, write_tiny

from vlmrank.models import download
from vlmrank.models.card import fetch_model
from vlmrank.models.download import DownloadError, MissingFileError, url_file
from vlmrank.store.file_hashes import file_sha256

PAGE = b"  <!DOCTYPE HTML><html><body>Please log in</body></html>"
TABLE = b"model,dataset,acc1\nm,d,0.8437\n"


class Server(http.server.BaseHTTPRequestHandler):
    """Serves what `answers` says of a path: (status, headers, content, seconds to wait before it)."""

    answers: ClassVar[dict] = {}
    asked: ClassVar[list] = []

    def do_GET(self):
        status, headers, content, wait = self.answers.get(self.path, (404, {}, b"", 0))
        self.asked.append(self.path)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        time.sleep(wait)
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: `put(path, ...)` gives the address of what it serves there."""
    monkeypatch.setattr(Server, "answers", {})
    monkeypatch.setattr(Server, "asked", [])
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def put(path, content=TABLE, *, status=200, wait=0.0, **headers):
        Server.answers[path] = (
            status,
            {name.replace("_", "-"): value for name, value in headers.items()},
            content,
            wait,
        )
        return f"http://127.0.0.1:{running.server_port}{path}"

    yield put
    running.shutdown()
    running.server_close()


def kept(cache):
    return [path.name for path in Path(cache).rglob("*") if path.is_file() and "hashes" not in path.parts]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"Content_Length": "1000000"}, "announced 1000000 bytes and sent 30: not kept; run again"),
        ({"content": PAGE}, "is a web page, not a file"),
        ({"status": 404}, r"does not exist on its server \(404\)"),
        ({"status": 403}, r"not given to everybody \(403\)"),
        ({"status": 401}, r"not given to everybody \(401\)"),
        ({"status": 503}, "its server answers 503; run again later"),
        ({"wait": 1.0}, "did not answer within 0.2 s; run again later"),
    ],
)
def test_what_is_not_the_file_is_not_kept(tmp_path, server, monkeypatch, answer, words):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with pytest.raises(DownloadError, match=words) as error:
        url_file(server("/a/table.csv", **answer), cache=tmp_path)
    assert "no network access" not in str(error.value) and kept(tmp_path) == []


def test_nobody_listens_is_no_network(tmp_path, server):
    address = server("/table.csv").replace("http://127.0.0.1:", "http://127.0.0.1:1")[:20] + "1/table.csv"
    with pytest.raises(DownloadError, match="no network access"):
        url_file(address, cache=tmp_path)


def test_a_missing_file_is_an_error_of_its_own(tmp_path, server):
    with pytest.raises(MissingFileError):
        url_file(server("/table.csv", status=404), cache=tmp_path)


def test_the_hash_that_an_address_tells_is_checked(tmp_path, server):
    (tmp_path / "x").write_bytes(TABLE)
    digest = file_sha256(tmp_path / "x")
    assert url_file(server(f"/{digest}/a.pt"), cache=tmp_path / "cache").read_bytes() == TABLE
    assert url_file(server(f"/rn50-{digest[:8]}.pt"), cache=tmp_path / "cache").read_bytes() == TABLE
    with pytest.raises(DownloadError, match="expected 0123456789abcdef"):
        url_file(server(f"/{'0123456789abcdef' * 4}/b.pt"), cache=tmp_path / "cache")
    with pytest.raises(DownloadError, match="expected 00000000"):
        url_file(server("/rn50-00000000.pt"), cache=tmp_path / "cache")


@pytest.mark.parametrize("content", [PAGE, TABLE[:-5]])
def test_a_broken_file_of_the_cache_is_fetched_once_more(tmp_path, server, content):
    (tmp_path / "x").write_bytes(TABLE)
    address = server(f"/{file_sha256(tmp_path / 'x')}/a.pt")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "a.pt").write_bytes(content)
    with pytest.raises(DownloadError, match="download it again"):
        url_file(address, cache=cache, offline=True)
    assert url_file(address, cache=cache).read_bytes() == TABLE
    assert url_file(address, cache=cache).read_bytes() == TABLE
    assert len(Server.asked) == 1, "what is right stays"


def test_weights_that_the_cache_has_broken_are_fetched_once_more(tmp_path, server, monkeypatch):
    from open_clip import factory

    folder = write_tiny(tmp_path / "tiny", tiny_state())
    good = (folder / "open_clip_model.safetensors").read_bytes()
    address = server("/tiny.safetensors", good)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", TINY)
    monkeypatch.setattr("vlmrank.models.weights.get_pretrained_cfg", lambda *_: {"url": address}, raising=False)
    monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda *_: {"url": address})
    monkeypatch.setattr("vlmrank.models.card.hub_is_reachable", lambda: True)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "tiny.safetensors").write_bytes(good[:-100])
    card = fetch_model("m", "ViT-tiny", "here", cache=cache)
    assert card["status"] == "ok", card["reason"]
    assert (cache / "tiny.safetensors").read_bytes() == good and len(Server.asked) == 1
    server("/tiny.safetensors", good[:-100])
    (cache / "tiny.safetensors").write_bytes(good[:-100])
    card = fetch_model("m", "ViT-tiny", "here", cache=cache)
    assert card["status"] == "failed" and len(Server.asked) == 2, "once more, not for ever"


@pytest.mark.parametrize(("status", "words"), [(403, "not given to everybody"), (503, "answers 503; run again later")])
def test_a_hub_that_refuses_is_not_a_missing_network(tmp_path, server, monkeypatch, status, words):
    from huggingface_hub import constants

    from vlmrank.models import hub

    address = server("/org/name/resolve/main/a.json", status=status)
    monkeypatch.setattr(constants, "ENDPOINT", address.split("/org")[0])
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    with pytest.raises(DownloadError, match=words):
        hub.hub_file("org/name", "a.json", cache=tmp_path)
