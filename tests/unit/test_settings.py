"""Settings are read strictly, and whoever makes a mistake is told its full name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from idefics2_service.__main__ import settings_table
from idefics2_service.errors import SettingInvalid
from idefics2_service.settings import Settings, describe
from pydantic import BaseModel, ValidationError

SECRET = "someone.0123456789abcdef"


def all_fields() -> dict[str, Any]:
    """Map each variable's name to its field's default."""
    settings = Settings()
    return {
        f"IDEFICS2_{section}_{field}".upper(): getattr(getattr(settings, section), field)
        for section in Settings.model_fields
        for field in type(getattr(settings, section)).model_fields
    }


def refuse(environ: dict[str, str], **overrides: Any) -> str:
    """Read settings that are bad, and return what is said of them."""
    with pytest.raises(SettingInvalid) as caught:
        Settings.read(environ, {name.replace("__", "."): value for name, value in overrides.items()})
    return str(caught.value)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.read({}) == Settings()
    assert Settings.read({"PATH": "/bin", "HOME": "/root", "FAL_KEY": "x"}) == Settings()


def test_a_variable_sets_the_field_it_names_and_no_other() -> None:
    settings = Settings.read(
        {"IDEFICS2_QUEUE_MAX_RUNNING": "3", "IDEFICS2_GRPC_DRAIN_TIMEOUT_SECONDS": "0.5"}
    )
    assert settings.queue.max_running == 3
    assert settings.grpc.drain_timeout_seconds == 0.5
    assert settings.queue.max_waiting == Settings().queue.max_waiting
    assert settings.http == Settings().http


@pytest.mark.parametrize(
    "name", ["IDEFICS2_QUEUE_MAX_RUNING", "IDEFICS2_GRPC_MAX_WAITING", "IDEFICS2_NONSENSE"]
)
def test_an_unknown_variable_is_named_in_full(name: str) -> None:
    assert refuse({name: "1"}) == f"{name} is not a setting of this service"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IDEFICS2_GRPC_PORT", "ssh"),
        ("IDEFICS2_GRPC_PORT", "65536"),
        ("IDEFICS2_HTTP_PORT", "-1"),
        ("IDEFICS2_HTTP_PORT", ""),
        ("IDEFICS2_QUEUE_MAX_RUNNING", "0"),
        ("IDEFICS2_QUEUE_MAX_RUNNING", "1.5"),
        ("IDEFICS2_QUEUE_MAX_WAITING", "many"),
        ("IDEFICS2_LIMITS_MAX_IMAGE_BYTES", "20MB"),
        ("IDEFICS2_TRITON_URL", "127.0.0.1"),
        ("IDEFICS2_TRITON_URL", "http://triton:8001"),
        ("IDEFICS2_TRITON_URL", "triton:http"),
        ("IDEFICS2_TRITON_URL", "triton:0"),
        ("IDEFICS2_TRITON_URL", "triton:65536"),
        ("IDEFICS2_TRITON_URL", "triton:8001/"),
        ("IDEFICS2_TRITON_URL", ":8001"),
        ("IDEFICS2_TRITON_URL", "::1:8001"),
        ("IDEFICS2_TRITON_START_TIMEOUT_SECONDS", "0"),
        ("IDEFICS2_TRITON_CANARY_INTERVAL_SECONDS", "-1"),
        ("IDEFICS2_TRACE_ENDPOINT", "collector:4317"),
        ("IDEFICS2_TRACE_RATIO", "1.5"),
        ("IDEFICS2_LIMITS_MAX_IMAGES", "501"),
        ("IDEFICS2_LOG_LEVEL", "loud"),
        ("IDEFICS2_LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_named_with_its_variable(name: str, text: str) -> None:
    message = refuse({name: text})
    assert message.startswith(f"{name}: ")
    assert message.endswith(f", not {text!r}")
    assert message.count("IDEFICS2_") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "my_triton.example.com:65535", "[::1]:1", ""])
def test_an_address_of_triton_is_taken_as_it_stands(url: str) -> None:
    assert Settings.read({"IDEFICS2_TRITON_URL": url}).triton.url == url


NUMBERS = [name for name, default in all_fields().items() if isinstance(default, float)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "Infinity"])
def test_a_number_that_is_none_or_has_no_end_is_refused_by_name(name: str, text: str) -> None:
    assert name.endswith(("_SECONDS", "_RATIO"))
    assert refuse({name: text}).startswith(f"{name}: ")


def test_every_mistake_is_told_at_once() -> None:
    message = refuse({"IDEFICS2_GRPC_PORT": "x", "IDEFICS2_LOG_LEVEL": "y", "IDEFICS2_QUEUE_SIZE": "1"})
    parts = [part.split(":")[0].split(" ")[0] for part in message.split("; ")]
    assert sorted(parts) == ["IDEFICS2_GRPC_PORT", "IDEFICS2_LOG_LEVEL", "IDEFICS2_QUEUE_SIZE"]


def test_a_lease_that_ends_between_two_renewals_is_refused() -> None:
    told = refuse({"IDEFICS2_STORE_LEASE_SECONDS": "2"})
    assert told == (
        "IDEFICS2_STORE_RENEW_SECONDS must be at most half of IDEFICS2_STORE_LEASE_SECONDS, 1, not 3"
    )


def test_a_replica_of_a_store_that_has_none_is_refused() -> None:
    told = refuse({"IDEFICS2_STORE_REPLICA_URL": "redis://replica"})
    assert told == "IDEFICS2_STORE_REPLICA_URL needs IDEFICS2_STORE_URL: SQLite has no replicas"


@pytest.mark.parametrize("face", ["GRPC", "HTTP"])
def test_room_for_less_than_what_one_request_may_bring_is_refused(face: str) -> None:
    told = refuse(
        {
            "IDEFICS2_LIMITS_MAX_IMAGES": "2",
            f"IDEFICS2_{face}_MAX_RECEIVE_BYTES": "40000000",
            "IDEFICS2_GATE_MAX_HELD_BYTES": "1000000",
        }
    )
    assert told == (
        f"IDEFICS2_GATE_MAX_HELD_BYTES must be at least twice IDEFICS2_{face}_MAX_RECEIVE_BYTES + "
        "IDEFICS2_LIMITS_MAX_IMAGES * IDEFICS2_LIMITS_MAX_IMAGE_BYTES, 160000000, not 1000000"
    )


def test_variables_of_the_client_and_of_the_engine_are_left_alone() -> None:
    environ = {"IDEFICS2_CLIENT_TARGET": "host:1", "IDEFICS2_MODEL_DEVICE": "cpu", "IDEFICS2_MODEL_X": "?"}
    assert Settings.read(environ) == Settings()


def test_what_overrules_wins_over_the_environment() -> None:
    environ = {"IDEFICS2_GRPC_PORT": "1234", "IDEFICS2_GRPC_HOST": "0.0.0.0"}  # noqa: S104  # not listened on
    settings = Settings.read(environ, {"grpc.port": 5678, "triton.url": "host:8001"})
    assert (settings.grpc.port, settings.triton.url) == (5678, "host:8001")
    assert settings.grpc.host == environ["IDEFICS2_GRPC_HOST"]


def test_what_overrules_is_read_as_strictly() -> None:
    assert refuse({}, grpc__port=70_000).startswith("IDEFICS2_GRPC_PORT: ")
    assert refuse({}, grpc__prt=1) == "IDEFICS2_GRPC_PRT is not a setting of this service"
    assert refuse({}, grpc__drain_timeout_seconds=math.nan).startswith(
        "IDEFICS2_GRPC_DRAIN_TIMEOUT_SECONDS: "
    )


def test_settings_do_not_change() -> None:
    settings = Settings()
    sections = [settings, *(getattr(settings, name) for name in Settings.model_fields)]
    for section in sections:
        assert isinstance(section, BaseModel)
        for field in type(section).model_fields:
            with pytest.raises(ValidationError):
                setattr(section, field, getattr(section, field))


def test_the_table_lists_every_setting_with_its_default_and_its_meaning() -> None:
    rows = [line.split(" | ") for line in settings_table().splitlines()[2:]]
    assert [row[0] for row in rows] == [f"| `{name}`" for name in all_fields()]
    defaults = ["" if default is None else str(default) for default in all_fields().values()]
    assert [row[1] for row in rows] == [default and f"`{default}`" for default in defaults]
    assert all(len(row) == 3 and len(row[2]) > len(" |") for row in rows)


def test_every_variable_of_the_table_can_be_set() -> None:
    for name, default, _ in describe():
        if default:
            assert Settings.read({name: default}) == Settings(), name


def test_no_secret_is_shown() -> None:
    settings = Settings.read({"IDEFICS2_API_KEY": SECRET})
    assert settings.api.key is not None
    assert settings.api.key.get_secret_value() == SECRET
    for text in (repr(settings), str(settings), f"{settings.api}", settings.model_dump_json()):
        assert "0123456789abcdef" not in text


def test_no_secret_is_shown_where_a_variable_is_misspelt() -> None:
    message = refuse({"IDEFICS2_API_KYE": SECRET})
    assert message == "IDEFICS2_API_KYE is not a setting of this service"


@pytest.mark.parametrize("given", ["someone:hunter2", "hunter2", "some:one:hunter2", "h@unter2", "h/unter2"])
@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("IDEFICS2_TRACE_ENDPOINT", "https"),
        ("IDEFICS2_TRITON_URL", "http"),
        ("IDEFICS2_BLOB_URL", "http"),
        ("IDEFICS2_QUEUE_MAX_RUNNING", "redis"),
        ("IDEFICS2_FETCH_ALLOWED_NETWORKS", "http"),  # of which the reason tells the value, too
    ],
)
def test_no_secret_of_a_url_is_shown_where_it_is_refused(name: str, scheme: str, given: str) -> None:
    message = refuse({name: f"{scheme}://{given}@host:4317"})
    assert message.startswith(f"{name}: ")
    assert message.endswith(f", not '{scheme}://...@host:4317'")
    assert given not in message
    assert "unter2" not in message


def test_a_folder_is_read_as_a_path() -> None:
    assert Settings.read({"IDEFICS2_DATA_FOLDER": "/srv/x"}).data.folder == Path("/srv/x")


@pytest.mark.parametrize("name", ["IDEFICS2_TRITN_URL", "IDEFICS2_GRPC", "IDEFICS2_grpc_PORT"])
def test_a_variable_of_no_section_or_no_field_is_named_in_full(name: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        Settings.read({name: "1"})
    assert str(caught.value) == f"{name} is not a setting of this service"
