"""Import a user's Python file under a name of its own, so that versions with equal file names do not meet."""

from __future__ import annotations

import importlib.util
import itertools
import pkgutil
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

from inferd.core.errors import InferdError, LoadFailed

_PACKAGE = "_inferd_user_"
_number = itertools.count(1)
_locks: dict[str, AbstractContextManager[bool]] = {}
_folders_of_an_absolute_path = re.compile(r"(?<![\w:/.])/(?:[\w.+@~-]+/)+")


def import_file(path: Path) -> ModuleType:
    """Import ``path`` as the only module of a package whose folder is the file's.

    Files beside it are found by ``import sibling`` while it is imported, and by ``from .sibling import x`` at any
    time; either way they are this file's own copies. Raises ``LoadFailed`` naming file, line and reason.
    """
    if not path.is_file():
        raise LoadFailed(f"{path.name} does not exist")
    package = ModuleType(f"{_PACKAGE}{next(_number)}")
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    name = f"{package.__name__}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_ReadOnly(name, str(path)))
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

    ``thread`` is the identifier of the thread that runs the code, if not this one. ``sys.modules`` is shared: folders
    that hold modules of the same names, besides the one file of each, wait for each other, and afterwards the siblings
    are taken out of it.
    """
    ident, loads = thread or threading.get_ident(), _finder().loads
    with ExitStack() as held:
        for name in _shared_names(folder, what):
            held.enter_context(_locks.setdefault(name, threading.RLock()))
        _look_again(folder)
        outer, load = loads.get(ident), _Load(folder, frozenset(sys.modules))
        loads[ident] = load
        try:
            yield
        except InferdError:
            raise
        except (Exception, SystemExit) as error:
            raise LoadFailed(readable(error, what)) from error
        finally:
            if outer is None:
                del loads[ident]
            else:
                loads[ident] = outer
            for name in load.found - load.before:
                sys.modules.pop(name, None)


def _look_again(folder: Path | None) -> None:
    """Have the import system forget what it knows of the files in ``folder``, or in all folders.

    ``importlib.invalidate_caches`` does so for all, and fails when another thread imports something meanwhile.
    """
    for path, finder in sys.path_importer_cache.copy().items():
        if folder is not None and not Path(path).is_relative_to(folder):
            continue
        if finder is None:
            sys.path_importer_cache.pop(path, None)
        elif hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()


def _shared_names(folder: Path | None, what: str) -> list[str]:
    """The modules in ``folder``, in an order that all agree on; [] when ``what`` is the only one."""
    names = {module.name for module in pkgutil.iter_modules([str(folder)])} if folder is not None else set()
    return sorted(names) if names - {Path(what).stem} else []


class _ReadOnly(SourceFileLoader):
    """Leaves no ``__pycache__`` in a model's folder: it may be read-only, and a look must not see it as a change."""

    def set_data(self, path: str, data: object, *, _mode: int = 0) -> None:
        """Called with the bytecode to keep."""


@dataclass(slots=True)
class _Load:
    """User code that is being loaded; ``before`` are the modules there were, ``found`` its siblings that came."""

    folder: Path | None
    before: frozenset[str]
    found: set[str] = field(default_factory=set)


class _Siblings:
    """Finds top-level modules in the folder of what a thread loads; other threads see none of them."""

    def __init__(self) -> None:
        self.loads: dict[int, _Load] = {}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The import system's question; ``path`` is None for a top-level name."""
        load = self.loads.get(threading.get_ident())
        if load is None or load.folder is None:
            return None
        top = name.partition(".")[0]
        relative = top.startswith(_PACKAGE)
        if path is not None and not relative and top not in load.found:
            return None
        spec = PathFinder.find_spec(name, [str(load.folder)] if path is None else path)
        if spec is None or spec.loader is None:
            return None
        if not relative:
            load.found.add(name)
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _ReadOnly(spec.loader.name, spec.loader.path)
        return spec


@cache
def _finder() -> _Siblings:
    """The one of the process. It stays: imports in other threads go through the list of finders at any time, and would
    miss one when another is taken out."""
    finder = _Siblings()
    sys.meta_path.insert(0, finder)
    return finder


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
