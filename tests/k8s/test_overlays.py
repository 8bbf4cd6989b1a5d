"""Every overlay is as it should be, and README says what there is."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import grpc
import pytest
import yaml
from idefics2.v1 import generation_pb2
from idefics2_service.errors import SettingInvalid
from idefics2_service.settings import Settings
from k8s.manifests import FOLDER, ROOT, Bundle, list_overlays, walk
from k8s.rules.pods import read_settings
from k8s.schemas import check_dockerfiles, check_style
from k8s.verify import find

README = (FOLDER / "README.md").read_text()


def test_every_overlay_is_without_findings() -> None:
    assert list(find(FOLDER)) == []


def test_files_are_without_findings() -> None:
    assert [*check_style(FOLDER), *check_dockerfiles()] == []


def test_the_readme_has_every_overlay() -> None:
    named = re.findall(r"^\| `([a-z-]+)` \|", README.partition("## One pod")[0], re.MULTILINE)
    assert sorted(named) == list_overlays()


def test_replicas_that_share_a_store_share_it(bundles: dict[str, Bundle]) -> None:
    assert read_settings(bundles["production"]).blob.url.startswith("s3://")
    assert not read_settings(bundles["one-gpu"]).store.url


def test_service_links_would_end_the_start() -> None:
    with pytest.raises(SettingInvalid, match="IDEFICS2_SERVICE_HOST is not a setting"):
        Settings.read({"IDEFICS2_SERVICE_HOST": "10.0.0.1"})


def test_the_probe_asks_for_a_service_that_there_is(bundles: dict[str, Bundle]) -> None:
    service = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"].full_name
    for name in ("one-machine-cpu", "one-gpu", "production"):
        assert bundles[name].server.container("front")["readinessProbe"]["grpc"]["service"] == service


def test_the_service_config_of_the_readme_is_one() -> None:
    tree = ast.parse(README.partition("```python\n")[2].partition("```")[0])
    (given,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "json.dumps")
    config = ast.literal_eval(given.args[0])
    assert set(config) == {"loadBalancingConfig", "healthCheckConfig"}
    assert config["healthCheckConfig"]["serviceName"] == "idefics2.v1.GenerationService"
    grpc.insecure_channel("dns:///localhost:1", [("grpc.service_config", json.dumps(config))]).close()


def test_both_scalers_ask_for_the_same(bundles: dict[str, Bundle]) -> None:
    rules = yaml.safe_load(
        README.partition("## How it scales")[2].partition("```yaml\n")[2].partition("```")[0]
    )
    adapted = [
        rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="idefics2"')
        for rule in rules["rules"]["external"]
    ]
    (scaler,) = bundles["production"].of("ScaledObject")
    assert adapted == [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]


def test_tritons_image_has_what_the_tests_run_with() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = {pin for pin in project["optional-dependencies"]["embedded"] if "pytriton" not in pin}
    image = (ROOT / "triton_models/Dockerfile").read_text()
    assert set(re.findall(r"\b([\w-]+==[\w.]+)", image)) == tested


@pytest.mark.parametrize("path", ["service/Dockerfile", "triton_models/Dockerfile"])
def test_images_stand_on_a_digest_and_do_not_run_as_root(path: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(re.fullmatch(r".+@\$\{[A-Z]+_DIGEST\}", base) for base in bases)
    assert [line for line in lines if line.startswith("USER ")] == ["USER 65532:65532"]


def test_images_are_made_of_what_they_copy() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for path in ("service/Dockerfile", "triton_models/Dockerfile"):
        for line in re.findall(r"^COPY (?!--)(.+)", (ROOT / path).read_text(), re.MULTILINE):
            for source in line.split()[:-1]:
                assert f"!{source}" in ignored
                assert Path(ROOT / source).exists()


@pytest.mark.parametrize("secret", ["idefics2-objects", "idefics2-hub"])
def test_a_secret_that_may_be_absent_keeps_no_pod_from_starting(
    bundles: dict[str, Bundle], secret: str
) -> None:
    (told,) = re.findall(rf"^\| `{secret}` \| ([^|]+) \|", README, re.MULTILINE)
    assert "may be absent" in told
    asked = [
        part["secretKeyRef"]
        for pod in bundles["production"].pods
        for part in walk(pod.spec)
        if part.get("secretKeyRef", {}).get("name") == secret
    ]
    assert asked
    assert all(part.get("optional") for part in asked)


def test_a_job_that_has_ended_goes_and_may_be_applied_again_with_another_image(
    bundles: dict[str, Bundle],
) -> None:
    jobs = bundles["production"].of("Job")
    assert jobs
    assert all(0 < job["spec"]["ttlSecondsAfterFinished"] <= 600 for job in jobs)
