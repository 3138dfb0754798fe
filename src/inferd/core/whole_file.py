"""Files that appear whole or not at all, so that a full disk leaves what was there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from inferd.core.errors import LoadFailed


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """What is written in the block takes the place of ``path`` at its end; nothing changes when the block raises.

    Raises ``LoadFailed`` when the disk refuses.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise LoadFailed(f"{path} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
