"""A registry as a store: which versions a path means, what is asked again at the next look, what is not."""

from types import SimpleNamespace

import pytest

from inferd.core.errors import ConfigError, LoadFailed
from inferd.sources.registry import RegistryStore


class Page(list):
    token = None


class FakeClient:
    """Of MLflow's client what the store calls; two versions a page."""

    def __init__(self):
        self.versions = {}
        self.alias = "1"

    def add(self, number, status="READY", created=1):
        self.versions[str(number)] = SimpleNamespace(
            version=str(number), status=status, creation_timestamp=created, source=f"runs:/{number}"
        )

    def get_registered_model(self, name):
        assert name == "iris"

    def get_model_version(self, name, version):
        return self.versions[version]

    def get_model_version_by_alias(self, name, alias):
        assert (name, alias) == ("iris", "champion")
        return self.versions[self.alias]

    def search_model_versions(self, query, page_token=None):
        assert query == "name='iris'"
        start = int(page_token or 0)
        page = Page(list(self.versions.values())[start : start + 2])
        page.token = str(start + 2) if start + 2 < len(self.versions) else None
        return page


@pytest.fixture
def client(monkeypatch):
    import mlflow.artifacts

    made = FakeClient()
    made.listed = []

    def list_artifacts(artifact_uri):
        made.listed.append(artifact_uri)
        if artifact_uri.endswith("/code"):
            return [SimpleNamespace(path="code/empty.py", is_dir=False, file_size=None)]
        return [
            SimpleNamespace(path="MLmodel", is_dir=False, file_size=7),
            SimpleNamespace(path="code", is_dir=True, file_size=None),
        ]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("mlflow.MlflowClient", lambda: made)
    monkeypatch.setattr(mlflow.artifacts, "list_artifacts", list_artifacts)
    return made


def test_every_version_that_is_ready_is_a_folder(client):
    for number in range(1, 6):
        client.add(number, status="PENDING_REGISTRATION" if number == 4 else "READY")
    files = RegistryStore("models:/iris").files()
    assert {path.partition("/")[0] for path in files} == {"1", "2", "3", "5"}
    file = files["5/MLmodel"]
    assert (file.path, file.size_bytes) == ("models:/iris/5/MLmodel", 7)
    assert files["5/code/empty.py"].size_bytes == 0


def test_what_a_version_holds_is_asked_once(client):
    client.add(1)
    store = RegistryStore("models:/iris")
    store.files()
    store.files()
    assert client.listed == ["models:/iris/1", "models:/iris/1/code"]
    client.add(1, created=2)  # its number was deleted and given again
    changed = store.files()
    assert len(client.listed) == 4
    assert changed["1/MLmodel"].tag == "runs:/1 2"


def test_an_alias_is_looked_up_at_each_look(client):
    client.add(1)
    client.add(2)
    store = RegistryStore("models:/iris@champion")
    assert set(store.files()) == {"1/MLmodel", "1/code/empty.py"}
    client.alias = "2"
    assert set(store.files()) == {"2/MLmodel", "2/code/empty.py"}


def test_the_latest_is_the_highest_number(client):
    for number in (2, 10, 9):
        client.add(number)
    assert {path.partition("/")[0] for path in RegistryStore("models:/iris/latest").files()} == {"10"}


def test_a_model_without_a_version_is_an_error(client):
    with pytest.raises(LoadFailed, match="no version of 'iris' that is ready"):
        RegistryStore("models:/iris").files()


@pytest.mark.parametrize(
    "url", ["models:/", "models:/iris/", "models:/iris/01", "models:/iris/Staging", "models:/a/b/c", "models://p/iris"]
)
def test_another_form_is_refused(url):
    with pytest.raises(ConfigError, match="is not models:/name"):
        RegistryStore(url)


def test_another_registry_is_another_place(client, monkeypatch):
    first = RegistryStore("models:/iris").identity
    monkeypatch.setattr("mlflow.get_registry_uri", lambda: "http://127.0.0.1:10")
    assert RegistryStore("models:/iris").identity != first
