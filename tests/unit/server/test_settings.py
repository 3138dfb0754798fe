from dataclasses import fields
from pathlib import Path

import pytest

from inferd.core.errors import ConfigError
from inferd.server.grpc_services import DEFAULT_PORT
from inferd.server.settings import SCHEMA, Settings, default_of, flag_name, load_settings, model_defaults, variable_name


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "inferd.toml"
    file.write_text(text)
    return file


def load(file=None, env=None, **flags):
    return load_settings(file=file, env=env or {}, flags=flags)


def refusal(file=None, env=None, **flags) -> str:
    with pytest.raises(ConfigError) as error:
        load(file, env, **flags)
    return error.value.message


def test_nothing_said_gives_the_defaults():
    settings, origins = load()
    assert settings == Settings()
    assert settings.host == "127.0.0.1"
    assert set(origins.values()) == {"default"}


def test_the_file_beats_defaults_the_environment_the_file_and_flags_everything(tmp_path: Path):
    file = write(tmp_path, '# mine\nhost = "::1"\nport = 1\nmax_body_mb = 2\n')
    settings, origins = load(file, {"INFERD_PORT": "2", "INFERD_MAX_BODY_MB": "3"}, max_body_mb="4.5", strict=None)
    assert (settings.host, settings.port, settings.max_body_mb, settings.strict) == ("::1", 2, 4.5, False)
    assert origins["host"] == f"file {file}:2"
    assert origins["port"] == "environment INFERD_PORT"
    assert origins["max_body_mb"] == "flag --max-body-mb"
    assert origins["strict"] == "default"


def test_each_source_brings_the_types_of_the_schema(tmp_path: Path):
    file = write(tmp_path, 'paths = ["a", "b"]\nkeep_alive_s = 5\nstrict = true\n')
    settings, _ = load(file, {"INFERD_PROTOCOLS": "native, oip", "INFERD_OPEN": "yes", "INFERD_MAX_WAIT_MS": "0.5"})
    assert settings.paths == ("a", "b")
    assert settings.keep_alive_s == 5.0
    assert type(settings.keep_alive_s) is float
    assert settings.strict is True
    assert settings.protocols == ("native", "oip")
    assert settings.open is True
    assert settings.max_wait_ms == 0.5


def test_typed_values_are_taken_as_flags():
    settings, _ = load(port=0, paths=("m.onnx",), access_log=True)
    assert (settings.port, settings.paths, settings.access_log) == (0, ("m.onnx",), True)


def test_an_unknown_key_is_refused_with_file_line_and_suggestion(tmp_path: Path):
    file = write(tmp_path, "port = 1\n\nmax_bodymb = 3\n")
    assert refusal(file) == f"{file}:3: unknown key 'max_bodymb'; did you mean 'max_body_mb'?"


def test_an_unknown_flag_of_the_python_interface_is_refused():
    assert refusal(prot=1).startswith("unknown setting 'prot'; did you mean 'port'?")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('port = "8000"', "port takes a whole number, got '8000'"),
        ("port = 8000.0", "port takes a whole number"),
        ("port = true", "port takes a whole number, got True"),
        ("port = 65536", "port takes a number from 0 to 65535, got 65536"),
        ("max_body_mb = 0", "max_body_mb takes a number from 0.001 up"),
        ("max_body_mb = nan", "max_body_mb takes a finite number"),
        ('strict = "yes"', "strict takes true or false"),
        ('log_format = "xml"', 'log_format takes "text" or "json", got \'xml\''),
        ('paths = "model.onnx"', "paths takes a list of text"),
        ("paths = [1]", "paths takes text, got 1"),
        ('version_policy = "newest"', "version_policy takes latest, latest:N, all, or version numbers"),
        ("[port]", "port takes a whole number"),
    ],
)
def test_a_wrong_value_in_the_file_is_refused_saying_what_is_accepted(tmp_path: Path, line, says):
    file = write(tmp_path, f"# one\n{line}\n")
    message = refusal(file)
    assert message.startswith(f"{file}:2: ")
    assert says in message


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INFERD_PORT", "80x", "INFERD_PORT takes a whole number, got '80x'"),
        ("INFERD_STRICT", "maybe", "INFERD_STRICT takes true or false"),
        ("INFERD_MAX_BODY_MB", "inf", "INFERD_MAX_BODY_MB takes a finite number"),
        ("INFERD_NAN", "zero", '"error" or "null" or "string"'),
    ],
)
def test_a_wrong_value_in_the_environment_names_the_variable(variable, value, says):
    assert says in refusal(env={variable: value})


def test_a_misspelt_variable_is_refused_and_an_orchestrators_own_is_not():
    assert (
        refusal(env={"INFERD_MAX_BODYMB": "1"})
        == "unknown variable INFERD_MAX_BODYMB; did you mean INFERD_MAX_BODY_MB?"
    )
    injected = {"INFERD_SERVICE_HOST": "10.0.0.1", "INFERD_PORT_8000_TCP": "tcp://10.0.0.1:8000", "INFERD_API_KEYS": ""}
    assert load(env=injected)[0] == Settings()


def test_every_setting_has_help_a_flag_and_a_variable():
    assert [entry.name for entry in fields(Settings)] == list(SCHEMA)
    for name, entry in SCHEMA.items():
        assert entry.metadata["help"].endswith("."), name
    assert flag_name("max_body_mb") == "--max-body-mb"
    assert variable_name("max_body_mb") == "INFERD_MAX_BODY_MB"


def test_the_default_that_is_shown_of_a_setting_is_the_one_of_the_models():
    plain = model_defaults(Settings())
    sections = (plain.batching, plain.execution, plain.lifecycle, plain)
    of_models = {entry.name: getattr(section, entry.name) for section in sections for entry in fields(section)}
    of_models |= {"instances": plain.instances.count, "device": plain.instances.device, "grpc_port": DEFAULT_PORT}
    unset = [name for name, entry in SCHEMA.items() if entry.default is None]
    assert len(unset) == 11
    assert {name: default_of(name) for name in unset} == {name: of_models[name] for name in unset}
    assert default_of("port") == 8000


def test_model_defaults_change_only_what_was_set():
    plain = model_defaults(Settings())
    assert plain.batching.max_batch_size == 0
    assert plain.nan == "error"
    settings, _ = load(max_batch_size="8", instances="2", nan="null", compute_timeout_ms="50", device="cpu")
    config = model_defaults(settings)
    assert (config.batching.max_batch_size, config.batching.max_wait_ms) == (8, 0.0)
    assert (config.instances.count, config.instances.device) == (2, "cpu")
    assert config.execution.compute_timeout_ms == 50.0
    assert config.nan == "null"
