import hashlib
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inferd.core.errors import ConfigError
from inferd.server.keys import Key, append_key, keys_from_environment, load_keys, new_key

DIGEST = "ab" * 32


def test_a_new_key_is_256_random_bits_of_which_only_the_hash_is_kept():
    secret, key = new_key("ci", ["inference", "metrics"])
    other, _ = new_key("ci", ["inference"])
    assert secret != other
    assert len(secret.removeprefix("inferd_")) == 43  # 32 bytes in base64 without padding
    assert key == Key("ci", frozenset({"inference", "metrics"}), hashlib.sha256(secret.encode()).hexdigest())


def test_appended_keys_are_read_back_and_the_file_is_its_owners_alone(tmp_path: Path):
    file = tmp_path / "keys.toml"
    keys = (
        new_key("one", ["inference"], datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))[1],
        new_key("two", ["admin", "metrics"])[1],
    )
    for key in keys:
        append_key(file, key)
    assert load_keys(file) == keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_key_of_one_id_is_refused_and_the_file_stays_as_it_was(tmp_path: Path):
    file = tmp_path / "keys.toml"
    append_key(file, new_key("one", ["inference"])[1])
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="two keys have the id 'one'"):
        append_key(file, new_key("one", ["admin"])[1])
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            f'id = "a"\nscopes = ["inferense"]\nsha256 = "{DIGEST}"',
            "unknown scope 'inferense'; did you mean 'inference'?",
        ),
        (f'id = "a"\nscopes = []\nsha256 = "{DIGEST}"', "at least one of inference, admin, metrics"),
        (f'id = "a"\nscopes = "admin"\nsha256 = "{DIGEST}"', "scopes takes a list"),
        ('id = "a"\nscopes = ["admin"]\nsha256 = "abc"', "sha256 takes 64 lower-case hex digits"),
        ('id = "a"\nscopes = ["admin"]', "sha256 takes 64 lower-case hex digits"),
        (f'id = "a b"\nscopes = ["admin"]\nsha256 = "{DIGEST}"', "id takes letters"),
        (f'scopes = ["admin"]\nsha256 = "{DIGEST}"', "id takes letters"),
        (f'id = "a"\nscopes = ["admin"]\nsha256 = "{DIGEST}"\nexpires = "2030"', "expires takes a date and time"),
        (f'id = "a"\nscopes = ["admin"]\nsha256 = "{DIGEST}"\nexpires = 2030-01-01T00:00:00', "with an offset"),
        (f'id = "a"\nscopes = ["admin"]\nsha265 = "{DIGEST}"', "unknown key 'key[0].sha265'; did you mean 'sha256'?"),
    ],
)
def test_a_wrong_key_is_refused_with_file_and_line(tmp_path: Path, table, says):
    file = tmp_path / "keys.toml"
    file.write_text(f"# keys\n[[key]]\n{table}\n")
    with pytest.raises(ConfigError) as error:
        load_keys(file)
    assert error.value.message.startswith(f"{file}:")
    assert says in error.value.message


def test_a_file_of_no_keys_table_is_refused(tmp_path: Path):
    file = tmp_path / "keys.toml"
    file.write_text("[key]\nid = 'a'\n")
    with pytest.raises(ConfigError, match=r"key is written \[\[key\]\]"):
        load_keys(file)


def test_keys_come_from_the_environment_too():
    keys = keys_from_environment(f"a:inference+metrics:{DIGEST}, b:admin:{DIGEST}")
    assert keys == (Key("a", frozenset({"inference", "metrics"}), DIGEST), Key("b", frozenset({"admin"}), DIGEST))
    assert keys_from_environment("") == ()


@pytest.mark.parametrize(
    "value", ["a:inference", f"a:wizard:{DIGEST}", "a:inference:secret", f"a:admin:{DIGEST},a:admin:{DIGEST}"]
)
def test_a_wrong_key_in_the_environment_is_refused_without_repeating_it(value):
    with pytest.raises(ConfigError, match="INFERD_API_KEYS") as error:
        keys_from_environment(value)
    assert "secret" not in error.value.message
