"""JSON on disk: written whole or not at all, held by one writer at a time, sealed by a digest.

What is on disk is at every moment complete: the last that was written. Hidden neighbours of a file, its lock and its
temporary copy, are never followed as links.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.training.files import NOT_FOLLOWED, written_whole

Json = dict[str, Any]


class ArtefactError(ValueError):
    """An artefact that cannot be read, trusted or written; the message says which and what to do."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def sealed(content: Json) -> Json:
    """The content with its digest."""
    return {**content, "digest": fingerprint({key: value for key, value in content.items() if key != "digest"})}


def is_intact(content: Json) -> bool:
    """Whether the digest is there and fits."""
    try:
        return "digest" in content and content == sealed(content)
    except (ValueError, RecursionError):  # bare NaN or infinity, or depths, which the writer never produces
        return False


def read_json(path: Path) -> Json:
    """The object in a JSON file.

    Raises:
        ArtefactError: if the file is missing, cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} does not exist; run the experiment to make it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(
            f"{path} cannot be read as JSON ({error}); restore it or run the experiment again"
        ) from error
    if not isinstance(content, dict):
        raise ArtefactError(
            f"{path} is not an artefact of this book: it holds no JSON object; run the experiment again"
        )
    return content


def write_json(path: Path, content: Json) -> None:
    """Write JSON atomically.

    Raises:
        ArtefactError: if it cannot be written; what was on disk before is then still there, whole.
    """
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    try:
        written_whole(path, text.encode())
    except OSError as error:
        raise ArtefactError(
            f"{path} could not be written ({error.strerror}); rows saved before are still there: make room or "
            "choose another --out, and run again to resume"
        ) from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the file for writing; the lock goes with the process, however that ends.

    Raises:
        ArtefactError: if another process holds it, or its folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT | NOT_FOLLOWED, 0o666)
    except (OSError, ValueError) as error:  # a name that cannot be encoded is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ArtefactError(f"{path.parent} cannot be written to ({reason}); choose another --out") from error
    try:
        try:
            _lock(lock)
        except BlockingIOError as error:
            raise ArtefactError(f"another run is writing {path}; wait for it, or choose another --out") from error
        except OSError as error:
            raise ArtefactError(f"{path} cannot be locked ({error.strerror}); choose --out on a local disk") from error
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int) -> None:
    """Lock a file without waiting; BlockingIOError if another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError as error:
            raise BlockingIOError(*error.args) from error
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
