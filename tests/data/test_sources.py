"""Data sets from files: fetched from a server on this machine that can break off half way, damaged, unreadable."""

import gzip
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
from scipy.io import savemat
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
    with pytest.raises(data.DataError, match=r"CIFAR-10 was not found whole under .* fetch it with --download"):
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


def made_up_cifar100(root, monkeypatch):
    """A training file of CIFAR-100's form with three images, whose digest torchvision is told."""
    pixels = np.random.default_rng(2).integers(0, 256, (3, 3072), dtype=np.uint8)
    files = {"train": {"data": pixels, "fine_labels": [99, 0, 7]}, "meta": {"fine_label_names": list("abc")}}
    folder = root / "cifar100" / datasets.CIFAR100.base_folder
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
    digests = {name: md5((folder / name).read_bytes()) for name in files}
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": digests["meta"]})
    return folder / "train"


def made_up_svhn(root, monkeypatch):
    """A training file of SVHN's form with three images; its class 10 is the digit 0."""
    path = root / "svhn" / "train_32x32.mat"
    path.parent.mkdir(parents=True)
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 3, 3), dtype=np.uint8)
    savemat(path, {"X": pixels, "y": np.array([[10], [1], [9]], dtype=np.uint8)})
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": ["", path.name, md5(path.read_bytes())]})
    return path


@pytest.mark.parametrize(
    ("name", "make", "classes", "targets"),
    [("cifar100", made_up_cifar100, 100, [99, 0, 7]), ("svhn", made_up_svhn, 10, [0, 1, 9])],
)
@pytest.mark.parametrize("harm", ["a bit", "cut short", "gone"])
def test_altered_files_of_the_other_sets_are_refused(tmp_path, monkeypatch, name, make, classes, targets, harm):
    path = make(tmp_path, monkeypatch)
    split = data.load(name, root=tmp_path)
    assert (split.inputs.shape, split.classes, split.targets.tolist()) == ((3, 3, 32, 32), classes, targets)
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + (bytes([content[middle] ^ 1]) + content[middle + 1 :]) * (harm == "a bit"))
    with pytest.raises(data.DataError, match=rf"{split.edition} was not found whole under .* fetch it with --download"):
        data.load(name, root=tmp_path)


def test_without_a_network_it_is_one_sentence(monkeypatch, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    monkeypatch.setattr(datasets.CIFAR10, "url", f"http://127.0.0.1:{port}/cifar-10-python.tar.gz")
    with pytest.raises(
        data.DataError, match="fetch it with --download, or here with download=True; or point HELPERS_DATA"
    ):
        data.load("cifar10", root=tmp_path, download=True)


# --- MNIST and Fashion-MNIST: what torchvision does not check ---


PIXELS = np.random.default_rng(1).integers(0, 256, (4, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 0, 9], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An array as a compressed IDX file."""
    kind = 2048 + array.ndim
    return gzip.compress(np.array([kind, *array.shape], ">u4").tobytes() + array.tobytes(), mtime=0)


@pytest.fixture(params=["mnist", "fashion-mnist"])
def mnist(request, monkeypatch, tmp_path):
    """The four files of a made-up edition in their folder, and torchvision told their checksums."""
    kind = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[request.param]
    names = [name for name, _ in getattr(datasets, kind).resources]
    files = dict(zip(names, [idx(PIXELS), idx(LABELS), idx(PIXELS[:3]), idx(LABELS[:3])], strict=True))
    monkeypatch.setattr(getattr(datasets, kind), "resources", [(name, md5(files[name])) for name in names])
    raw = tmp_path / request.param / kind / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return SimpleNamespace(name=request.param, kind=kind, raw=raw, files=files, root=tmp_path)


def test_mnist_is_read_from_the_files_with_known_checksums(mnist):
    train, test = (data.load(mnist.name, root=mnist.root, train=train) for train in (True, False))
    assert (train.inputs.shape, test.inputs.shape) == ((4, 1, 28, 28), (3, 1, 28, 28))
    assert train.targets.tolist() == [3, 1, 0, 9]
    assert test.targets.tolist() == [3, 1, 0]
    mean, std = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}[mnist.name]
    torch.testing.assert_close(train.inputs[:, 0], (torch.from_numpy(PIXELS).float() / 255 - mean) / std)


@pytest.mark.parametrize("position", [0, 3, 30, -1])
@pytest.mark.parametrize("file", [0, 1])
def test_a_flipped_bit_in_mnist_is_found(mnist, position, file):
    path = mnist.raw / list(mnist.files)[file]
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(
        data.DataError, match=r"its MD5 differs: truncated, swapped or altered\); fetch it with --download"
    ):
        data.load(mnist.name, root=mnist.root)


def test_unpacked_and_processed_files_are_not_believed(mnist):
    """Nobody published checksums of them; torchvision would take them as they are."""
    processed = mnist.raw.with_name("processed")
    processed.mkdir()
    for name, content in mnist.files.items():
        (mnist.raw / name).unlink()
        (mnist.raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    torch.save((torch.from_numpy(PIXELS), torch.from_numpy(LABELS)), processed / "training.pt")
    with pytest.raises(data.DataError, match=r"images-idx3-ubyte.gz is missing; fetch it"):
        data.load(mnist.name, root=mnist.root)


def test_images_where_labels_should_be_are_named(mnist, monkeypatch):
    names = list(mnist.files)
    (mnist.raw / names[1]).write_bytes(idx(PIXELS))
    known = [(name, md5((mnist.raw / name).read_bytes())) for name in names]
    monkeypatch.setattr(getattr(datasets, mnist.kind), "resources", known)
    with pytest.raises(data.DataError, match="begins with 2051 instead of 2049"):
        data.load(mnist.name, root=mnist.root)


def test_mnist_is_fetched_from_the_mirror_that_answers_and_only_when_asked(mnist, monkeypatch):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(mnist.files[self.path[1:]])))
            self.end_headers()

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()
            self.wfile.write(mnist.files[self.path[1:]])

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
            ports = (closed.server_port, listening.server_port)
        monkeypatch.setattr(getattr(datasets, mnist.kind), "mirrors", [f"http://127.0.0.1:{port}/" for port in ports])
        for name in mnist.files:
            (mnist.raw / name).unlink()
        with pytest.raises(data.DataError, match="is missing; fetch it"):
            data.load(mnist.name, root=mnist.root)
        assert asked == []
        assert len(data.load(mnist.name, root=mnist.root, download=True)) == 4
        fetched = len(asked)
        assert len(data.load(mnist.name, root=mnist.root, download=True)) == 4  # whole: not fetched again
        assert len(asked) == fetched > 0
        listening.shutdown()
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte.gz of .*MNIST could not be fetched \("):
        data.load(mnist.name, root=mnist.root, train=False, download=True)


# --- files that cannot be read ---


@pytest.mark.parametrize("name", ["cifar10-jpeg", "mnist", "cifar10"])
@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("x" * 5000, "cannot be read|not found whole"),
        ("~nobody-of-this-name/data", "names no known home; write its path in full"),
        ("a\0b", "cannot be read|is missing|not found whole"),
        ("\ud800", "cannot be read|is missing|not found whole"),
    ],
)
def test_a_root_that_is_no_folder_is_one_sentence(name, root, message):
    with pytest.raises(data.DataError, match=message) as caught:
        data.load(name, root=root)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_one_sentence(mnist, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)
    with pytest.raises(data.DataError, match=r"MNIST cannot be read \(Permission denied\); make its files readable"):
        data.load(mnist.name, root=mnist.root)
