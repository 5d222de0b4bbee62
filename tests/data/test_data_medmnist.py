"""MedMNIST through a local HTTP server: fetched once, checked, and every failure one line."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.data.medmnist import MEDMNIST
from cxcompress.errors import InputError


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        self.server.requests.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that is served, its address given to the library, and an empty cache."""
    pytest.importorskip("pooch")
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    server.requests = []
    server.folder = folder
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("CXCOMPRESS_MEDMNIST_URL", f"http://127.0.0.1:{server.server_port}/files")
    monkeypatch.setenv("CXCOMPRESS_CACHE", str(tmp_path / "cache"))
    (folder / "files").mkdir()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def publish(server, monkeypatch, name="pneumoniamnist", size="28"):
    rng = np.random.default_rng(0)
    path = server.folder / "files" / (name + ("" if size == "28" else f"_{size}") + ".npz")
    np.savez(path, **{f"{part}_images": rng.integers(0, 256, (4, 28, 28), np.uint8)
                      for part in ("train", "val", "test")},
             **{f"{part}_labels": np.array([[0], [1], [1], [1]])
                for part in ("train", "val", "test")})
    facts = MEDMNIST[name]
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(MEDMNIST, name, facts | {"md5": facts["md5"] | {size: md5}})


@pytest.mark.parametrize("size", ["28", "224"])
def test_fetched_once_then_from_the_cache(server, monkeypatch, size):
    publish(server, monkeypatch, size=size)
    name = "medmnist:pneumoniamnist" + ("" if size == "28" else f"_{size}")
    for _ in range(2):
        collection = open_collection(name)
        assert collection.name == name and collection.classes == ("normal", "pneumonia")
        assert "CC BY 4.0" in collection.credit and not collection.synthetic
        assert len(collection.train) == 4
    assert len(server.requests) == 1


def test_a_file_that_is_not_the_published_one_is_refused(server, monkeypatch):
    publish(server, monkeypatch)
    path = server.folder / "files" / "pneumoniamnist.npz"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match="not the published file"):
        open_collection("medmnist:pneumoniamnist")


def test_a_missing_file_and_a_dead_server_are_one_line(server, monkeypatch):
    with pytest.raises(InputError, match="cannot be fetched.*404"):
        open_collection("medmnist:breastmnist")
    monkeypatch.setenv("CXCOMPRESS_MEDMNIST_URL", "http://127.0.0.1:9/")
    with pytest.raises(InputError, match="cannot be fetched") as caught:
        open_collection("medmnist:breastmnist")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["medmnist:cifar", "medmnist:pneumoniamnist_32", "medmnist:"])
def test_unknown_names(name):
    with pytest.raises(InputError, match="pneumoniamnist"):
        open_collection(name)


def test_the_facts_are_complete():
    for facts in MEDMNIST.values():
        assert set(facts["md5"]) == {"28", "64", "128", "224"}
        assert all(len(md5) == 32 for md5 in facts["md5"].values())
        assert len(facts["classes"]) >= 2 and facts["licence"].startswith("CC")
