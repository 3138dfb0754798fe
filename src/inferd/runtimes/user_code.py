"""Import a user's Python file under a name of its own, so that versions with equal file names do not meet."""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from inferd.core.errors import InferdError, LoadFailed

_number = itertools.count(1)
_lock = threading.RLock()
_folders_of_an_absolute_path = re.compile(r"(?<![\w:/.])/(?:[\w.+@~-]+/)+")


def import_file(path: Path) -> ModuleType:
    """Import ``path`` as the only module of a package whose folder is the file's.

    Files beside it are found by ``import sibling`` while it is imported, and by ``from .sibling import x`` at any
    time; either way they are this file's own copies. Raises ``LoadFailed`` naming file, line and reason.
    """
    if not path.is_file():
        raise LoadFailed(f"{path.name} does not exist")
    package = ModuleType(f"_inferd_user_{next(_number)}")
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    spec = importlib.util.spec_from_file_location(f"{package.__name__}.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with loading(path.parent, path.name):
            spec.loader.exec_module(module)
    except LoadFailed:
        del sys.modules[spec.name], sys.modules[package.__name__]
        raise
    return module


@contextmanager
def loading(folder: Path | None, what: str, thread: int | None = None) -> Iterator[None]:
    """Run user code while loading: its siblings can be imported, and any failure becomes one readable sentence.

    ``thread`` is the identifier of the thread that runs the code, if not this one. One at a time in the process,
    because ``sys.modules`` is shared: afterwards the siblings are taken out of it.
    """
    with _lock:
        before = set(sys.modules)
        finder = _Siblings(folder, thread or threading.get_ident())
        # No __pycache__ in a model's folder: it may be read-only, and a poll must not see it as a change.
        write_nothing, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        importlib.invalidate_caches()
        sys.meta_path.insert(0, finder)
        try:
            yield
        except InferdError:
            raise
        except (Exception, SystemExit) as error:
            raise LoadFailed(readable(error, what)) from error
        finally:
            sys.dont_write_bytecode = write_nothing
            sys.meta_path.remove(finder)
            for name in finder.found - before:
                sys.modules.pop(name, None)


class _Siblings:
    """Finds top-level modules in one folder, for one thread only: others that import meanwhile see none of them."""

    def __init__(self, folder: Path | None, thread: int) -> None:
        self.folder = folder
        self.thread = thread
        self.found: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The import system's question; ``path`` is None for a top-level name."""
        if self.folder is None or threading.get_ident() != self.thread:
            return None
        if path is not None:
            if name.partition(".")[0] in self.found:
                self.found.add(name)
            return None
        spec = PathFinder.find_spec(name, [str(self.folder)])
        if spec is None or spec.loader is None:
            return None
        self.found.add(name)
        return spec


def readable(error: BaseException, what: str) -> str:
    """``model.py, line 3: ModuleNotFoundError: No module named 'x'``: where and why, without folders of the server."""
    if isinstance(error, SyntaxError):
        name, line, text = Path(error.filename or what).name, error.lineno, error.msg
    else:
        files = {what, what.rpartition(".")[2] + ".py"}
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name in files]
        name, line, text = what, frames[-1].lineno if frames else None, str(error)
    place = f"{name}, line {line}" if line else name
    text = _folders_of_an_absolute_path.sub("", " ".join(text.split()))
    return f"{place}: {type(error).__name__}: {text}" if text else f"{place}: {type(error).__name__}"
