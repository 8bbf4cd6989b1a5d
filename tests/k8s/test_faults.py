"""Faults are found: each is planted into a copy, and somebody must say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from k8s import schemas
from k8s.manifests import ROOT
from k8s.verify import find, find_broken_rules

if TYPE_CHECKING:
    from pathlib import Path

    from k8s.conftest import Copy

PARTS = "base/components"
PRODUCTION = "overlays/production/kustomization.yaml"

OUR_RULES = [
    # settings
    ("base/settings.env", "GRPC_HOST=", "GRPC_HOTS=", "IDEFICS2_GRPC_HOTS is not a setting"),
    ("base/settings.env", "DRAIN_TIMEOUT_SECONDS=30", "DRAIN_TIMEOUT_SECONDS=soon", "valid number"),
    ("base/model.env", "DEVICE=", "DEVISE=", "IDEFICS2_MODEL_DEVISE is not a setting of the engine"),
    (
        "base/model.env",
        "IDEFICS2_MODEL_DEVICE=auto",
        "IDEFICS2_LOG_LEVEL=info",
        "nothing that the engine reads",
    ),
    ("base/settings.env", "GRPC_HOST=0.0.0.0", "GRPC_HOST=127.0.0.1", "nobody reaches 127.0.0.1"),
    ("base/settings.env", "HTTP_ALLOW_INSECURE=true", "HTTP_ALLOW_INSECURE=false", "either TLS, or"),
    # ports
    ("base/services.yaml", "targetPort: grpc", "targetPort: gprc", "has no port gprc"),
    ("base/deployment.yaml", "              port: http", "              port: htpp", "asks port htpp"),
    ("base/deployment.yaml", "              port: 50051", "              port: 50052", "asks port 50052"),
    ("base/settings.env", "HTTP_PORT=8080", "HTTP_PORT=8081", "but the program listens on 8081"),
    ("base/deployment.yaml", "--metrics-port=8002", "--metrics-port=8003", "but the program listens on 8003"),
    ("base/settings.env", "127.0.0.1:8001", "127.0.0.1:8011", "the front looks for Triton elsewhere"),
    (
        "base/deployment.yaml",
        "--http-port=8000",
        "--http-port=8010",
        "startupProbe looks for Triton elsewhere",
    ),
    ("base/network-policies.yaml", "port: 8002", "port: 8003", "has no port 8003"),
    (
        "base/network-policies.yaml",
        "port: 8002",
        "port: triton-metrics",
        "triton-metrics is a sidecar's port",
    ),
    (f"{PARTS}/monitoring/pod-monitors.yaml", "port: triton-metrics", "port: metrics", "has no port metrics"),
    (f"{PARTS}/gateway/routes.yaml", "port: 8080", "port: 80", "there is no port 80 of Service/idefics2"),
    # networks
    ("base/network-policies.yaml", "              - 10.0.0.0/8\n", "", "10.0.0.0/8 is let through"),
    ("base/network-policies.yaml", "              - 2002::/16\n", "", "2002::/16 is let through"),
    ("base/network-policies.yaml", "169.254.0.0/16", "169.254.0.0/17", "169.254.0.0/16 is let through"),
    ("base/network-policies.yaml", "cidr: 2000::/3", "cidr: ::/0", "::/0 is not all that may be public"),
    (
        "base/network-policies.yaml",
        "podSelector: {}",
        "podSelector: {matchLabels: {a: b}}",
        "podSelector means no pod",
    ),
    (
        "base/network-policies.yaml",
        "        - port: 443\n",
        "        - port: 6379\n",
        "and not the fetcher's",
    ),
    (
        "base/network-policies.yaml",
        "    - to:\n        - ipBlock",
        "    - to: []\n    - to:\n        - ipBlock",
        "with everybody",
    ),
    ("base/network-policies.yaml", "part-of: idefics2", "part-of: idefics", "lets it out into the world"),
    # references
    (
        f"{PARTS}/shared-stores/kustomization.yaml",
        "name: idefics2-store",
        "name: idefics2-stor",
        "k8s/README.md does not",
    ),
    (
        f"{PARTS}/shared-stores/kustomization.yaml",
        """                  - name: IDEFICS2_STORE_URL
                    valueFrom:
                      secretKeyRef:
                        name: idefics2-store
                        key: url
""",
        "",
        "IDEFICS2_STORE_URL is missing",
    ),
    (
        f"{PARTS}/shared-stores/kustomization.yaml",
        """valueFrom:
                      secretKeyRef:
                        name: idefics2-webhooks
                        key: signing-key
""",
        "value: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "IDEFICS2_WEBHOOK_SIGNING_KEY is secret",
    ),
    ("base/deployment.yaml", "secretName: idefics2-keys", "secretName: keys", "Secret/keys is used"),
    (
        "base/services.yaml",
        "app.kubernetes.io/name: idefics2",
        "app.kubernetes.io/name: front",
        "selector means no pod",
    ),
    (
        f"{PARTS}/weights/job.yaml",
        "claimName: idefics2-weights",
        "claimName: weights",
        "PersistentVolumeClaim/weights is",
    ),
    (f"{PARTS}/keda/scaled-object.yaml", "    name: idefics2\n", "    name: front\n", "there is no front"),
    (
        f"{PARTS}/gateway/routes.yaml",
        "sectionName: grpc",
        "sectionName: rpc",
        "no Gateway listens as idefics2/rpc",
    ),
    (PRODUCTION, "grpcs://grpc.idefics2", "grpcs://idefics2", "the gateway's GRPCRoute leads here from"),
    # images
    (PRODUCTION, f"digest: sha256:{'0' * 64}", "newTag: 0.1.0", "has no digest"),
    # pods
    (
        "base/deployment.yaml",
        "enableServiceLinks: false",
        "enableServiceLinks: true",
        "enableServiceLinks is not false",
    ),
    (
        f"{PARTS}/weights/job.yaml",
        "restartPolicy: Never",
        "restartPolicy: OnFailure",
        "what fails takes its log with it",
    ),
    ("base/deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
    (
        "base/deployment.yaml",
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "readOnlyRootFilesystem is",
    ),
    ("base/deployment.yaml", "PeriodSeconds: 90", "PeriodSeconds: 60", "but the end may take 69.5 s"),
    (
        "base/settings.env",
        "DRAIN_TIMEOUT_SECONDS=30",
        "DRAIN_TIMEOUT_SECONDS=60",
        "but the end may take 99.5 s",
    ),
    (
        "base/settings.env",
        "DRAIN_DELAY_SECONDS=10",
        "DRAIN_DELAY_SECONDS=1",
        "calls are taken no more before others have heard",
    ),
    ("base/deployment.yaml", "medium: Memory", 'medium: ""', "no shared memory of its own"),
    ("base/deployment.yaml", "memory: 2Gi", "memory: 1Gi", "front may need"),
    (f"{PARTS}/gpu/kustomization.yaml", "memory: 32Gi", "memory: 3Gi", "triton may need"),
    (f"{PARTS}/gpu/kustomization.yaml", "memory: 32Gi", "memory: 2Gi", "no room for one sequence"),
    (
        "base/settings.env",
        "IDEFICS2_LOG",
        "IDEFICS2_GATE_MAX_HELD_BYTES=4294967296\nIDEFICS2_LOG",
        "front may need",
    ),
    # how many there are
    ("base/disruption.yaml", "maxUnavailable: 1", "minAvailable: 2", "holds Deployment/idefics2 where it is"),
    (
        f"{PARTS}/keda/scaled-object.yaml",
        "oldest_queued_seconds",
        "oldest_seconds",
        "there is no metric idefics2_store_oldest",
    ),
    (
        f"{PARTS}/keda/scaled-object.yaml",
        'oldest_queued_seconds{namespace="idefics2"}',
        'oldest_queued_seconds{namespace="cell-1"}',
        "asks for more than what is in the namespace idefics2",
    ),
    (
        f"{PARTS}/keda/scaled-object.yaml",
        '        ignoreNullValues: "false"\n',
        "",
        "takes a figure that is missing for 0",
    ),
    (f"{PARTS}/gateway/routes.yaml", "value: /queue", "value: /metrics", "HTTPRoute: paths are"),
]


@pytest.mark.parametrize(("path", "old", "new", "said"), OUR_RULES, ids=[said for *_, said in OUR_RULES])
def test_what_is_against_a_rule_of_ours_is_found(
    copy: Copy, path: str, old: str, new: str, said: str
) -> None:
    copy.spoil(path, old, new)
    findings = list(find_broken_rules(copy.render("production")))
    assert [finding for finding in findings if said in finding], findings


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("periodSeconds: 10", "periodSecond: 10", "periodSecond"),
        ("restartPolicy: Always", "restartPolicy: [Always]", "Always"),
        ("containerPort: 8002", "containerPort: many", "many"),
    ],
)
def test_a_typing_error_is_found_by_the_schemas_of_every_version(
    copy: Copy, old: str, new: str, said: str
) -> None:
    copy.spoil("base/deployment.yaml", old, new)
    findings = [f for f in schemas.check_schemas([copy.render("production")]) if said in f]
    assert len(findings) >= len(schemas.VERSIONS)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (f"{PARTS}/keda/scaled-object.yaml", "minReplicaCount", "minReplicaCounts"),
        (f"{PARTS}/keda/scaled-object.yaml", "pollingInterval: 15", "pollingInterval: often"),
        (f"{PARTS}/monitoring/pod-monitors.yaml", "scrapeTimeout", "scrapeTimeOut"),
        (f"{PARTS}/gateway/routes.yaml", "backendRefs", "backendRef"),
        (f"{PARTS}/gateway/gateway.yaml", "certificateRefs", "certificates"),
    ],
)
def test_a_typing_error_in_a_custom_resource_is_found_by_its_type(
    copy: Copy, path: str, old: str, new: str
) -> None:
    copy.spoil(path, old, new)
    assert list(schemas.check_models([copy.render("production")]))


def test_an_overlay_that_cannot_be_rendered_is_found(copy: Copy) -> None:
    copy.spoil("base/kustomization.yaml", "- services.yaml", "- service.yaml")
    (finding,) = find(copy.folder, ("production",))
    assert "service.yaml" in finding


def test_yaml_that_readers_read_differently_is_found(copy: Copy) -> None:
    copy.spoil("base/services.yaml", "  clusterIP: None", "  clusterIP: None\n  clusterIP: None")
    assert any("duplication" in finding for finding in schemas.check_style(copy.folder))


def test_an_image_that_moves_is_found(tmp_path: Path) -> None:
    for path in schemas.DOCKERFILES:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        text = (ROOT / path).read_text()
        (tmp_path / path).write_text(text.replace("26.04-py3@${TRITON_DIGEST}", "latest"))
    assert any("DL3007" in finding for finding in schemas.check_dockerfiles(tmp_path))
