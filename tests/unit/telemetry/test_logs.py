import json
import logging
import re
from dataclasses import dataclass
from time import monotonic_ns

import pytest

from inferd.telemetry.logs import access_line, configure_logging, request_id_context, set_level

logger = logging.getLogger("inferd.server")


@dataclass
class AnExchange:
    method: bytes = b"POST"
    path: bytes = b"/predict"
    principal: str = "dashboard"
    request_id: str = "abc-1"
    received_ns: int = 0
    status: int = 200


@pytest.fixture
def written(capsys):
    """What was written to stderr since it was last asked; the loggers are put back afterwards."""
    loggers = [logging.getLogger(name) for name in ("inferd", "uvicorn", "asyncio")]
    before = [(each, each.handlers[:], each.level) for each in loggers]
    yield lambda: capsys.readouterr().err
    for each, handlers, level in before:
        each.handlers = handlers
        each.setLevel(level)


def test_a_text_line_has_time_level_logger_message_and_request_id(written):
    configure_logging("text", "info")
    logger.info("took %d rows", 3, extra={"request_id": "abc-1"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z INFO inferd\.server: took 3 rows \[abc-1\]\n", written())


def test_what_others_wrote_stays_within_its_line_and_changes_nothing_of_the_terminal(written):
    configure_logging("text", "info")
    try:
        raise ValueError("red\x1b[31m\nand \u202eback")
    except ValueError as error:
        logger.exception("m failed: %s", error)
    lines = written().splitlines()
    assert lines[0].endswith(r"m failed: red\x1b[31m\nand \u202eback")
    assert lines[-2:] == [r"ValueError: red\x1b[31m", r"and \u202eback"]
    logger.info("ünï 東京")
    assert "ünï 東京" in written()


def test_a_json_line_is_one_object_with_what_came_as_extra(written):
    configure_logging("json", "info")
    logger.info("first\nsecond", extra={"request_id": "abc-1", "model": "iris", "odd": {1: object}})
    (line,) = written().splitlines()
    members = json.loads(line)
    assert members.pop("time").endswith("Z")
    assert members == {
        "level": "info",
        "logger": "inferd.server",
        "message": "first\nsecond",
        "request_id": "abc-1",
        "model": "iris",
        "odd": {"1": repr(object)},
    }


def test_a_traceback_stays_within_its_json_line(written):
    configure_logging("json", "info")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("it failed")
    (line,) = written().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_a_traceback_follows_its_text_line(written):
    configure_logging("text", "info")
    logger.error("it failed", exc_info=ValueError("broken"))
    assert written().splitlines()[-1] == "ValueError: broken"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_within_a_cold_request_carries_its_id(written, log_format):
    configure_logging(log_format, "info")
    token = request_id_context.set("cold-7")
    logger.info("inside")
    request_id_context.reset(token)
    logger.info("outside")
    inside, outside = written().splitlines()
    assert "cold-7" in inside
    assert "cold-7" not in outside


def test_configuring_again_replaces_the_format(written):
    configure_logging("text", "info")
    configure_logging("json", "info")
    logger.info("once")
    assert json.loads(written())["message"] == "once"


def test_the_level_can_be_changed_while_running(written):
    configure_logging("text", "warning")
    logger.info("one")
    set_level("debug")
    logger.debug("two")
    set_level("error")
    logger.warning("three")
    assert [line.split(": ")[1] for line in written().splitlines()] == ["two"]
    with pytest.raises(ValueError, match="LOUD"):
        set_level("loud")


def test_the_web_servers_own_lines_take_the_format_and_start_at_warning(written):
    configure_logging("json", "debug")
    logging.getLogger("uvicorn.error").info("chatter")
    logging.getLogger("uvicorn.error").warning("trouble", extra={"color_message": "trouble in red"})
    (line,) = written().splitlines()
    assert json.loads(line)["message"] == "trouble"
    assert "color_message" not in json.loads(line)


def test_the_access_log_says_who_asked_what_and_how_it_went(written):
    configure_logging("json", "info")
    access_line(AnExchange(received_ns=monotonic_ns()), ("10.0.0.7", 5000), 42)
    members = json.loads(written())
    assert members["logger"] == "inferd.access"
    assert re.fullmatch(r"10\.0\.0\.7:5000 POST /predict 200 42 bytes \d+\.\d{3} ms", members["message"])
    assert (members["request_id"], members["principal"], members["status"]) == ("abc-1", "dashboard", 200)
    assert members["took_ms"] >= 0


def test_an_access_line_holds_no_raw_bytes_of_the_path_and_needs_no_address(written):
    configure_logging("text", "info")
    access_line(AnExchange(path=b"/\xff\xe2", received_ns=monotonic_ns()), None, 0)
    assert "- POST /\\xff\\xe2 200" in written()
