"""How an operator sets the engine, and what is said of a mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from idefics2_engine.config import EngineConfig
from idefics2_engine.runner import Runner

FOLDER = Path(__file__).parents[2] / "triton_models/idefics2"
TEXTS = ("checkpoint", "device", "dtype")
CHOICES = ("cache_scope",)
NUMBERS = tuple(field.name for field in dataclasses.fields(EngineConfig) if field.type == "int")


def test_with_nothing_set_the_defaults_hold() -> None:
    config = EngineConfig.read({}, {}, FOLDER)
    assert dataclasses.replace(config, checkpoint="checkpoints/tiny") == EngineConfig()


def with_one(name: str, value: object) -> EngineConfig:
    """Change one default."""
    return EngineConfig(**{**dataclasses.asdict(EngineConfig()), name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_parameter_sets_its_number_and_nothing_else(name: str) -> None:
    config = EngineConfig.read({name: "7"}, {}, Path("/nowhere"))
    assert config == with_one(name, 7)


@pytest.mark.parametrize("name", TEXTS)
def test_a_parameter_sets_its_text_and_nothing_else(name: str) -> None:
    config = EngineConfig.read({name: "7"}, {}, Path("/nowhere"))
    assert config == with_one(name, "7")


@pytest.mark.parametrize("name", [*NUMBERS, *TEXTS])
def test_the_environment_overrules_the_parameters(name: str) -> None:
    environ = {f"IDEFICS2_MODEL_{name.upper()}": "9"}
    config = EngineConfig.read({name: "7", "max_running": "3"}, environ, Path("/nowhere"))
    assert str(getattr(config, name)) == "9"
    assert config.max_running == (9 if name == "max_running" else 3)


@pytest.mark.parametrize(
    ("parameter", "variable", "expected"),
    [
        (None, None, "cuda:1"),
        ("auto", None, "cuda:1"),
        ("auto", "auto", "cuda:1"),
        ("cuda:3", None, "cuda:3"),
        ("cuda:3", "auto", "cuda:1"),
        ("auto", "cpu", "cpu"),
        ("cuda:3", "cpu", "cpu"),
    ],
)
def test_a_device_that_is_assigned_is_taken_only_where_none_is_named(
    parameter: str | None, variable: str | None, expected: str
) -> None:
    parameters = {} if parameter is None else {"device": parameter}
    environ = {} if variable is None else {"IDEFICS2_MODEL_DEVICE": variable}
    config = EngineConfig.read(parameters, environ, FOLDER)
    assert config.assign("cuda:1") == dataclasses.replace(config, device=expected)


def test_caches_are_for_all_or_for_each_share() -> None:
    for scope in ("all", "share"):
        assert EngineConfig.read({"cache_scope": scope}, {}, FOLDER).cache_scope == scope
    with pytest.raises(ValueError, match="IDEFICS2_MODEL_CACHE_SCOPE must be all or share, not 'key'"):
        EngineConfig.read({}, {"IDEFICS2_MODEL_CACHE_SCOPE": "key"}, FOLDER)


def test_variables_of_others_are_left_alone() -> None:
    environ = {"IDEFICS2_QUEUE_MAX_RUNNING": "x", "IDEFICS2_API_KEY": "y", "MAX_RUNNING": "z", "PATH": "/bin"}
    assert EngineConfig.read({}, environ, Path("/nowhere")) == EngineConfig()


@pytest.mark.parametrize(
    ("parameters", "environ", "named"),
    [
        ({"max_runing": "8"}, {}, "engine parameter 'max_runing'"),
        ({}, {"IDEFICS2_MODEL_MAX_RUNING": "8"}, "IDEFICS2_MODEL_MAX_RUNING"),
        ({"": "8"}, {}, "engine parameter ''"),
        ({"read": "8"}, {"IDEFICS2_MODEL_READ": "8"}, "IDEFICS2_MODEL_READ"),
        ({}, {"IDEFICS2_MODEL_": "8"}, "IDEFICS2_MODEL_"),
    ],
)
def test_an_unknown_parameter_is_named_beside_those_that_are_known(
    parameters: dict[str, str], environ: dict[str, str], named: str
) -> None:
    with pytest.raises(ValueError, match="is not a setting of the engine; known are") as caught:
        EngineConfig.read(parameters, environ, FOLDER)
    said, _, known = str(caught.value).partition(";")
    assert said == f"{named} is not a setting of the engine"
    names = [f"IDEFICS2_MODEL_{name.upper()}" if environ else name for name in (*NUMBERS, *TEXTS, *CHOICES)]
    assert sorted(known.removeprefix(" known are ").split(", ")) == sorted(names)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "1e3", "0x10", "nan"])
def test_a_bad_number_is_named_as_it_was_set(name: str, text: str) -> None:
    variable = f"IDEFICS2_MODEL_{name.upper()}"
    for parameters, environ, named in (
        ({name: text}, {}, f"engine parameter {name!r}"),
        ({name: "8"}, {variable: text}, variable),
    ):
        with pytest.raises(ValueError, match="must be a whole number") as caught:
            EngineConfig.read(parameters, environ, FOLDER)
        assert str(caught.value).startswith(f"{named} must")
        assert repr(text) in str(caught.value)


def test_a_good_value_overrules_a_bad_one() -> None:
    config = EngineConfig.read({"max_running": "many"}, {"IDEFICS2_MODEL_MAX_RUNNING": "2"}, FOLDER)
    assert config.max_running == 2


def test_a_checkpoint_may_be_below_the_models_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/mine").mkdir(parents=True)
    config = EngineConfig.read({"checkpoint": "checkpoints/mine"}, {}, tmp_path)
    assert config.checkpoint == str(tmp_path / "checkpoints/mine")
    assert Path(EngineConfig.read({}, {}, FOLDER).checkpoint, "config.json").is_file()


def test_a_checkpoint_may_be_anywhere(tmp_path: Path) -> None:
    assert EngineConfig.read({"checkpoint": str(tmp_path)}, {}, FOLDER).checkpoint == str(tmp_path)


def test_a_checkpoint_that_is_no_folder_is_a_name_on_the_hub() -> None:
    name = "HuggingFaceM4/idefics2-8b"
    assert EngineConfig.read({"checkpoint": name}, {}, FOLDER).checkpoint == name


@pytest.mark.parametrize("name", ["/not/there", "./not/there", "../not/there"])
def test_a_checkpoint_that_can_only_be_a_folder_must_be_there(name: str) -> None:
    with pytest.raises(ValueError, match="checkpoint") as caught:
        EngineConfig.read({"checkpoint": name}, {}, FOLDER)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["max_running", "max_new_tokens", "max_images", "max_image_pixels"])
def test_a_bound_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' must be a whole number of 1 or more, not '0'"):
        EngineConfig.read({name: "0"}, {}, Path("/nowhere"))


@pytest.mark.parametrize(("name", "text"), [("device", "gpu"), ("device", "cpu:x"), ("dtype", "float33")])
def test_what_torch_does_not_know_is_named_by_its_variable_before_anything_is_loaded(
    name: str, text: str
) -> None:
    given = {"device": "cpu", name: text}
    config = EngineConfig(device=given["device"], dtype=given.get("dtype", "auto"))
    with pytest.raises(ValueError, match=rf"^IDEFICS2_MODEL_{name.upper()} .* must be auto or a") as caught:
        Runner(config, lambda *_: pytest.fail("it loads"))
    assert repr(text) in str(caught.value)
