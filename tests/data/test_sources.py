"""Data sets that torchvision fetches, from a server of our own on this machine that can break off half way."""

import hashlib
import io
import pickle
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import datasets

from helpers import data

FOLDER = "cifar-10-batches-py"
TRAIN, TEST = [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]


def made_up_cifar10() -> dict[str, bytes]:
    """Files as CIFAR-10 has them, with three random images each."""
    rng = np.random.default_rng(0)
    files = {
        name: pickle.dumps({"data": rng.integers(0, 256, (3, 3072), dtype=np.uint8), "labels": [i, i + 1, i + 2]})
        for i, name in enumerate(TRAIN + TEST)
    }
    return files | {"batches.meta": pickle.dumps({"label_names": [str(i) for i in range(10)]})}


def packed(files: dict[str, bytes]) -> bytes:
    """The files as one compressed archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """torchvision's CIFAR-10 is a made-up one on loopback, sent whole if ``server.whole``; ``server.asked`` counts."""
    files = made_up_cifar10()
    archive = packed(files)
    state = SimpleNamespace(whole=True, asked=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive)))
            self.end_headers()
            self.wfile.write(archive if state.whole else archive[: len(archive) // 2])

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listening.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{listening.server_port}/cifar-10-python.tar.gz"
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(files["batches.meta"])}
    lists = {part: [[name, md5(files[name])] for name in names] for part, names in (("train", TRAIN), ("test", TEST))}
    for name, value in {"url": url, "tgz_md5": md5(archive), "train_list": lists["train"], "test_list": lists["test"],
                        "meta": meta}.items():  # fmt: skip
        monkeypatch.setattr(datasets.CIFAR10, name, value)
    yield state
    listening.shutdown()
    listening.server_close()


def test_a_download_that_is_cut_short_is_one_sentence_and_the_next_one_mends_it(server, tmp_path):
    server.whole = False
    with pytest.raises(data.DataError, match=r"CIFAR-10 was not found whole under .* pass download=True once"):
        data.load("cifar10", root=tmp_path, download=True)
    asked, server.whole = server.asked, True
    with pytest.raises(data.DataError, match="was not found whole"):
        data.load("cifar10", root=tmp_path)
    assert server.asked == asked > 0  # nothing is fetched that was not asked for
    train = data.load("cifar10", root=tmp_path, download=True)
    test = data.load("cifar10", root=tmp_path, train=False)
    assert (len(train), len(test), train.classes) == (15, 3, 10)
    assert train.targets.tolist() == [label for i in range(5) for label in (i, i + 1, i + 2)]
    pixels = np.stack([pickle.loads(made_up_cifar10()[name])["data"] for name in TRAIN]).reshape(15, 3, 32, 32)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
    torch.testing.assert_close(train.inputs, (torch.from_numpy(pixels).float() / 255 - mean) / std)


@pytest.mark.parametrize("position", [0, 100, -1])
def test_a_file_that_was_altered_after_the_download_is_refused(server, tmp_path, position):
    data.load("cifar10", root=tmp_path, download=True)
    path = tmp_path / "cifar10" / FOLDER / TRAIN[2]
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(data.DataError, match="was not found whole"):
        data.load("cifar10", root=tmp_path)


def test_without_a_network_it_is_one_sentence(monkeypatch, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    monkeypatch.setattr(datasets.CIFAR10, "url", f"http://127.0.0.1:{port}/cifar-10-python.tar.gz")
    with pytest.raises(data.DataError, match="pass download=True once, point HELPERS_DATA"):
        data.load("cifar10", root=tmp_path, download=True)
