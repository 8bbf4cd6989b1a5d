"""What the documents say is so."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from idefics2_engine.config import EngineConfig
from idefics2_service.__main__ import settings_table
from idefics2_service.errors import SettingInvalid
from idefics2_service.exposure import check_exposure, is_loopback
from idefics2_service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def read(name: str) -> str:
    """Read a document."""
    return (ROOT / name).read_text()


def between(text: str, name: str) -> str:
    """Return what stands between the markers `<!-- name -->` and `<!-- /name -->`."""
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].strip()


def test_the_table_of_settings_is_what_the_program_prints() -> None:
    assert between(read("README.md"), "settings") == settings_table()


def test_the_table_of_engine_settings_names_every_parameter_with_its_default() -> None:
    rows = re.findall(r"^\| `IDEFICS2_MODEL_(\w+)` \| `([^`]*)` \|", read("README.md"), re.MULTILINE)
    documented = {name.lower(): default for name, default in rows}
    config = read("triton_models/idefics2/config.pbtxt")
    pattern = r'parameters: \{ key: "(\w+)" value: \{ string_value: "([^"]*)" \} \}'
    assert documented == dict(re.findall(pattern, config))
    assert documented == {name: str(value) for name, value in vars(EngineConfig()).items()}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"(?:^|`|HEAD )make ([a-z][a-z0-9-]*)", read(document), re.MULTILINE))
    targets = set(re.findall(r"^([a-z0-9-]+):", read("Makefile"), re.MULTILINE))
    assert named <= targets


def test_every_path_of_the_map_exists() -> None:
    code_map = read("ARCHITECTURE.md").partition("## Map of the code")[2].partition("## Invariants")[0]
    paths = re.findall(r"^\| `([^`]+)` \|", code_map, re.MULTILINE)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_module_is_on_the_map() -> None:
    code_map = read("ARCHITECTURE.md")
    for module in (ROOT / "service/idefics2_service").glob("*.py"):
        if module.stem not in {"__init__", "__main__"}:
            assert f"`service/idefics2_service/{module.name}`" in code_map


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=]", dependency)[0] for group in groups for dependency in group}
    table = read("CONTRIBUTING.md").partition("## Dependencies")[2]
    named = set(re.findall(r"`([a-z0-9*-]+)`", table))
    missing = {name for name in names if name not in named and not name.startswith("types-")}
    assert missing == set()


def test_the_programs_that_are_shown_are_those_that_are_tested() -> None:
    block = re.compile(r"^<!-- (clients/examples/\S+) -->\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
    shown = block.findall(read("README.md"))
    assert {name: code for name, code in shown if code != read(name)} == {}
    here = {
        str(path.relative_to(ROOT)) for path in (ROOT / "clients/examples/fal").iterdir() if path.is_file()
    }
    assert {name for name in here if "/old_" not in name} <= {name for name, _ in shown}


def test_the_clients_of_fal_that_are_to_be_installed_are_those_that_are_tested() -> None:
    packages = json.loads(read("tests/fal/package.json"))["dependencies"].items()
    (fal_client,) = re.findall(r'"(fal-client==\S+)"', read("pyproject.toml"))
    installs = re.findall(r"(?:npm|pip) install [^\n`]*fal[^\n`]*", read("README.md"))
    assert {word for line in installs for word in line.split() if "fal" in word} == {
        *(f"{name}@{version}" for name, version in packages),
        fal_client,
    }


def test_the_fronts_container_is_shown_with_settings_that_it_starts_with() -> None:
    (command,) = re.findall(r"^docker run (?:.*\\\n)*.*FRONT_IMAGE$", read("README.md"), re.MULTILINE)
    variables = dict(re.findall(r"-e (IDEFICS2_\w+)=(\S+)", command))
    settings = Settings.read(variables)
    assert not is_loopback(settings.grpc.host)
    check_exposure(settings, num_keys=1)
    for name in [name for name in variables if "INSECURE" in name]:
        with pytest.raises(SettingInvalid, match="there is no TLS"):
            check_exposure(Settings.read({**variables, name: "false"}), num_keys=1)


def test_the_model_adaptor_stays_thin() -> None:
    assert len(read("triton_models/idefics2/1/model.py").splitlines()) <= 200
