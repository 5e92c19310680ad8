"""Data sets by name, read from files whose content is checked, standardised.

The default, ``digits``, ships with scikit-learn and needs no file. The others are read from a *data root*:
``root=``, else the environment variable ``HELPERS_DATA``, else ``~/.cache/flatness-and-information``.
Nothing is downloaded unless ``download=True`` is passed.
"""

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.data.split import Split

EDITIONS = {
    "digits": "digits (scikit-learn)",
    "cifar10-jpeg": "CIFAR-10 (JPEG edition)",
    "cifar10-jpeg-16": "CIFAR-10 (JPEG edition, 16 × 16 pixels)",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
}


class DataError(ValueError):
    """A data file that is missing, truncated or not what it should be; the message says which and what to do."""


def data_root(root: str | Path | None = None) -> Path:
    """Where data files are looked for: the argument, else HELPERS_DATA, else the user's cache.

    Raises:
        DataError: if it begins with the home of a user that is not known.
    """
    chosen = root or os.environ.get("HELPERS_DATA") or "~/.cache/flatness-and-information"
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise DataError(f"the data root {str(chosen)[:80]!r} names no known home; write its path in full") from error


def load(name: str, *, root: str | Path | None = None, train: bool = True, download: bool = False) -> Split:
    """A data set by name, inputs standardised by the training set's mean and standard deviation (a channel).

    ========================  =========================================================================
    digits                    scikit-learn's 8x8 digits, flat (n, 64); 1,297 to train, 500 to test
    cifar10-jpeg              ``root/cifar10-jpeg/{train,test}.parquet``, images (n, 3, 32, 32)
    cifar10-jpeg-16           the same, averaged over squares of four pixels: (n, 3, 16, 16)
    cifar10, cifar100, svhn,  torchvision's files under ``root/NAME``; ``download=True`` fetches them
    mnist, fashion-mnist
    ========================  =========================================================================

    Of MNIST and Fashion-MNIST the compressed files are read, ``.gz``, for which alone there are published checksums.

    Raises:
        DataError: if the name is unknown or a file is missing, unreadable, truncated or altered.
    """
    if name not in EDITIONS:
        raise DataError(f"no data set is called {name!r}; choose from {', '.join(EDITIONS)}")
    if name == "digits":
        return _digits(train)
    try:
        if name.startswith("cifar10-jpeg"):
            split = _cifar10_jpeg(data_root(root) / "cifar10-jpeg", train)
            return split if name == "cifar10-jpeg" else _halved(split, EDITIONS[name])
        folder = data_root(root) / name
        if name in _IDX:
            return _idx(name, folder, train, download)
        return _torchvision(name, folder, train, download)
    except DataError:
        raise
    except (OSError, ValueError) as error:  # a path that is too long, or that no file can have, included
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(
            f"{EDITIONS[name]} cannot be read ({reason}); make its files readable, or point HELPERS_DATA elsewhere"
        ) from error


def _split(inputs: Tensor, targets: Tensor, classes: int, edition: str, origin: str) -> Split:
    return Split(inputs, targets.long(), classes, edition, origin, torch.arange(len(inputs)))


def _digits(train: bool) -> Split:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))  # the file is ordered by writer: mix before cutting
    cut = len(pixels) - 500
    inputs = torch.from_numpy(pixels[order]).float()
    inputs = (inputs - inputs[:cut].mean()) / inputs[:cut].std()
    rows = slice(0, cut) if train else slice(cut, None)
    targets = torch.from_numpy(labels[order])[rows]
    return _split(inputs[rows], targets, 10, EDITIONS["digits"], f"digits/{_part(train)}")


def _part(train: bool) -> str:
    return "train" if train else "test"


# Mean and standard deviation of the training images, a channel, in [0, 1].
_STATISTICS = {
    "cifar10-jpeg": ((0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
}


def _standardised(pixels: np.ndarray, name: str) -> Tensor:
    """uint8 (n, height, width, channels) to float32 (n, channels, height, width), standardised."""
    mean, std = (torch.tensor(values)[:, None, None] for values in _STATISTICS[name])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return images.sub_(mean).div_(std).contiguous()


_JPEG_ROWS_AND_SHA256 = {
    "train": (50_000, "f8b59c34df203e64fe89f3c4d51a656855ef2605eea04b6e7834999fde599c09"),
    "test": (10_000, "97d6dd29a59cb947dacbacba7c7873c64e83d7bfe778e6a9418df8f3d59f97ab"),
}


def _halved(split: Split, edition: str) -> Split:
    """Images at half their sides; the same examples of the same origin."""
    return replace(split, inputs=F.avg_pool2d(split.inputs, 2), edition=edition)


def _cifar10_jpeg(folder: Path, train: bool) -> Split:
    import pyarrow.parquet as parquet
    from PIL import Image

    path = folder / f"{_part(train)}.parquet"
    rows, sha256 = _JPEG_ROWS_AND_SHA256[_part(train)]
    if not path.is_file():
        raise DataError(
            f"{path} is missing; point HELPERS_DATA (or root=) at the folder that holds cifar10-jpeg/, "
            "or use dataset 'digits'"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{path} is not the expected file of {rows:,} images (its SHA-256 differs: truncated, swapped or altered); "
            "copy it afresh from its source"
        )
    table = parquet.read_table(io.BytesIO(content))
    encoded = table["img"].combine_chunks().field("bytes")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(jpeg.as_py()))) for jpeg in encoded])
    targets = torch.from_numpy(table["label"].to_numpy().copy())
    inputs = _standardised(pixels, "cifar10-jpeg")
    return _split(inputs, targets, 10, EDITIONS["cifar10-jpeg"], f"cifar10-jpeg/{_part(train)}")


_FETCH = (
    "fetch it with --download, or here with download=True; or point HELPERS_DATA at a folder that holds it, "
    "or use dataset 'digits'"
)

_IDX = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # name -> class in torchvision.datasets
_IDX_IMAGES, _IDX_LABELS = 2051, 2049  # the first number of a file says what it holds


def _idx(name: str, folder: Path, train: bool, download: bool) -> Split:
    """Images and labels from the two compressed files of a part, whose MD5 torchvision knows.

    torchvision itself reads the unpacked files, or what earlier versions made of them, and checks neither.
    """
    from torchvision import datasets

    kind = getattr(datasets, _IDX[name])
    raw = folder / _IDX[name] / "raw"
    contents = []
    for file_name, md5 in kind.resources[:2] if train else kind.resources[2:]:
        if download:
            _fetch(raw, file_name, md5, kind.mirrors, EDITIONS[name])
        path = raw / file_name
        if not path.is_file():
            raise DataError(f"{path} is missing; {_FETCH}")
        packed = path.read_bytes()
        if hashlib.md5(packed, usedforsecurity=False).hexdigest() != md5:
            raise DataError(
                f"{path} is not {EDITIONS[name]}'s (its MD5 differs: truncated, swapped or altered); {_FETCH}"
            )
        contents.append(gzip.decompress(packed))
    pixels, labels = _idx_array(contents[0], _IDX_IMAGES), _idx_array(contents[1], _IDX_LABELS)
    targets = torch.from_numpy(labels)
    return _split(_standardised(pixels[..., None], name), targets, 10, EDITIONS[name], f"{name}/{_part(train)}")


def _fetch(folder: Path, file_name: str, md5: str, mirrors: Sequence[str], edition: str) -> None:
    """Fetch a file from the first mirror that gives it whole, unless it is there already."""
    from torchvision.datasets.utils import download_url

    reason = "no mirror is known"
    for mirror in mirrors:
        try:
            download_url(f"{mirror}{file_name}", folder, file_name, md5)
            return
        except (OSError, RuntimeError, EOFError, HTTPException) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise DataError(f"{file_name} of {edition} could not be fetched ({reason}); try again, or use dataset 'digits'")


def _idx_array(content: bytes, kind: int) -> np.ndarray:
    """The numbers of an IDX file: four bytes of kind, whose last is the number of axes, four a length, then uint8."""
    header = np.frombuffer(content, ">u4", 1 + kind % 256)
    if header[0] != kind:
        raise DataError(f"an IDX file begins with {header[0]} instead of {kind}; fetch it afresh with --download")
    return np.frombuffer(content, np.uint8, offset=header.nbytes).reshape(header[1:].tolist()).copy()


_TORCHVISION = {  # name -> (class in torchvision.datasets, classes); their files' MD5 are checked there
    "cifar10": ("CIFAR10", 10),
    "cifar100": ("CIFAR100", 100),
    "svhn": ("SVHN", 10),
}


def _torchvision(name: str, folder: Path, train: bool, download: bool) -> Split:
    from torchvision import datasets

    kind, classes = _TORCHVISION[name]
    part = {"split": _part(train)} if name == "svhn" else {"train": train}
    try:
        source = getattr(datasets, kind)(folder, download=download, **part)
    except (RuntimeError, OSError, EOFError, HTTPException, tarfile.TarError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{EDITIONS[name]} was not found whole under {folder} ({reason}); {_FETCH}") from error
    pixels = np.asarray(source.data)
    if name == "svhn":
        pixels = pixels.transpose(0, 2, 3, 1)  # torchvision keeps SVHN channels first
    targets = torch.as_tensor(source.labels if name == "svhn" else source.targets)
    return _split(_standardised(pixels, name), targets, classes, EDITIONS[name], f"{name}/{_part(train)}")
