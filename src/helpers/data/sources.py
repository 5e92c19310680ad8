"""Data sets by name, read from files whose content is checked, standardised.

The default, ``digits``, ships with scikit-learn and needs no file. The others are read from a *data root*:
``root=``, else the environment variable ``HELPERS_DATA``, else ``~/.cache/flatness-and-information``.
Nothing is downloaded unless ``download=True`` is passed.
"""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers.data.split import Split

EDITIONS = {
    "digits": "digits (scikit-learn)",
    "cifar10-jpeg": "CIFAR-10 (JPEG edition)",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
}


class DataError(ValueError):
    """A data file that is missing, truncated or not what it should be; the message says which and what to do."""


def data_root(root: str | Path | None = None) -> Path:
    """Where data files are looked for: the argument, else HELPERS_DATA, else the user's cache."""
    return Path(
        root or os.environ.get("HELPERS_DATA") or Path.home() / ".cache" / "flatness-and-information"
    ).expanduser()


def load(name: str, *, root: str | Path | None = None, train: bool = True, download: bool = False) -> Split:
    """A data set by name, inputs standardised by the training set's mean and standard deviation (a channel).

    ========================  =========================================================================
    digits                    scikit-learn's 8x8 digits, flat (n, 64); 1,297 to train, 500 to test
    cifar10-jpeg              ``root/cifar10-jpeg/{train,test}.parquet``, images (n, 3, 32, 32)
    cifar10, cifar100, svhn,  torchvision's files under ``root/NAME``; ``download=True`` fetches them
    mnist, fashion-mnist
    ========================  =========================================================================

    Raises:
        DataError: if the name is unknown or a file is missing, truncated or altered.
    """
    if name == "digits":
        return _digits(train)
    if name == "cifar10-jpeg":
        return _cifar10_jpeg(data_root(root) / name, train)
    if name in _TORCHVISION:
        return _torchvision(name, data_root(root) / name, train, download)
    raise DataError(f"no data set is called {name!r}; choose from {', '.join(EDITIONS)}")


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


_TORCHVISION = {  # name -> (class in torchvision.datasets, classes)
    "cifar10": ("CIFAR10", 10),
    "cifar100": ("CIFAR100", 100),
    "svhn": ("SVHN", 10),
    "mnist": ("MNIST", 10),
    "fashion-mnist": ("FashionMNIST", 10),
}


def _torchvision(name: str, folder: Path, train: bool, download: bool) -> Split:
    from torchvision import datasets

    kind, classes = _TORCHVISION[name]
    part = {"split": _part(train)} if name == "svhn" else {"train": train}
    try:
        source = getattr(datasets, kind)(folder, download=download, **part)
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"{EDITIONS[name]} was not found whole under {folder} ({str(error).splitlines()[0]}); "
            "pass download=True once, point HELPERS_DATA at a folder that holds it, or use dataset 'digits'"
        ) from error
    pixels = np.asarray(source.data)
    if name == "svhn":
        pixels = pixels.transpose(0, 2, 3, 1)  # torchvision keeps SVHN channels first
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    targets = torch.as_tensor(source.labels if name == "svhn" else source.targets)
    return _split(_standardised(pixels, name), targets, classes, EDITIONS[name], f"{name}/{_part(train)}")
