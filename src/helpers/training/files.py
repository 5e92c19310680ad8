"""A file that is written whole or not at all.

It is written to a temporary neighbour, flushed to disk and moved into place, so what is on disk is at every moment
complete: the last that was written. The neighbour has a hidden name, which is never followed as a link.
"""

import os
from contextlib import suppress
from pathlib import Path

NOT_FOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def written_whole(path: Path, content: bytes) -> None:
    """Write the bytes to ``path``, atomically; its folder exists.

    Raises:
        OSError: if they cannot be written; what was on disk before is then still there, whole.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # left by a writer that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | NOT_FOLLOWED
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename within the folder last through a power cut; Windows has no way to ask for it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
