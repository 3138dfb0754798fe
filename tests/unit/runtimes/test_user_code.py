"""Code of users, imported by several threads at once."""

import sys
import threading

from inferd.runtimes.user_code import loading


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
