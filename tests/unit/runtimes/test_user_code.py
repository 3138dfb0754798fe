"""Code of users, imported by several threads at once."""

import os
import sys
import threading

import pytest

from inferd.core.errors import LoadFailed
from inferd.runtimes.user_code import import_file, loading


def test_many_threads_load_at_once(tmp_path):
    """Python's own invalidation of its caches is not made for it."""
    failures = []

    def load(number):
        try:
            for each in range(300):
                sys.path_importer_cache[f"{tmp_path}/{number}/{each}"] = None
                with loading(None, "model.py"):
                    pass
        except Exception as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []


def test_a_sibling_that_came_since_is_found_although_the_folder_looks_the_same(tmp_path):
    model = tmp_path / "model.py"
    model.write_text("import rates\n\nRATE = rates.RATE\n")
    before = tmp_path.stat()
    with pytest.raises(LoadFailed, match="rates"):
        import_file(model)
    (tmp_path / "rates.py").write_text("RATE = 3\n")
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert import_file(model).RATE == 3
