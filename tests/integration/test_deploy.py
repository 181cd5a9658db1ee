"""What deploy/ renders to, judged offline: no cluster, no registry, no container engine."""

import json
import re
import shutil
import subprocess
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from typing import Annotated, Any

import kubernetes_validate
import pytest
import yaml
from pydantic import TypeAdapter

from jobcache_refresher.settings import Settings
from tests.pages import DOCS
from tests.tools import require

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = "base"
EXAMPLE = "overlays/example"

Document = dict[str, Any]


def kustomize(directory: str) -> str:
    command = [require("kubectl"), "kustomize", str(DEPLOY / directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns"
    return done.stdout


def validate(document: Document) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.fixture(scope="module", params=[BASE, EXAMPLE])
def rendered(request: pytest.FixtureRequest) -> str:
    return kustomize(request.param)


@pytest.fixture(scope="module")
def documents(rendered: str) -> dict[str, Document]:
    """The rendered documents by kind, of which there is one each."""
    found = list(yaml.safe_load_all(rendered))
    by_kind = {document["kind"]: document for document in found}
    assert len(by_kind) == len(found)
    return by_kind


@pytest.fixture(scope="module")
def pod(documents: dict[str, Document]) -> Document:
    spec: Document = documents["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: Document) -> Document:
    assert "initContainers" not in pod
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only


@pytest.fixture(scope="module")
def config(documents: dict[str, Document]) -> dict[str, str]:
    data: dict[str, str] = documents["ConfigMap"]["data"]
    return data


def test_every_document_is_valid(documents: dict[str, Document]) -> None:
    assert set(documents) == {"ConfigMap", "Deployment"}
    for document in documents.values():
        validate(document)


def test_validation_is_strict(documents: dict[str, Document]) -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        validate({**documents["Deployment"], "replicas": 1})


def test_manifests_hold_no_credentials(rendered: str, container: Document) -> None:
    assert not re.search(r"(rediss?|valkeys?|unix)://", rendered)
    (url,) = container["env"]
    assert url == {
        "name": "JOBCACHE_REDIS_URL",
        "valueFrom": {"secretKeyRef": {"name": "jobcache-redis", "key": "url"}},
    }


def test_the_status_volume_is_read_only(
    pod: Document, container: Document, config: dict[str, str]
) -> None:
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["persistentVolumeClaim"]["readOnly"] is True
    assert mount == {
        "name": volume["name"],
        "mountPath": config["JOBCACHE_STATUS_DIR"],
        "readOnly": True,
        # Without it, a mount that the host makes anew stays hidden.
        "mountPropagation": "HostToContainer",
    }


def test_pods_have_the_least_privilege(pod: Document, container: Document) -> None:
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


def test_settings_are_real_and_have_valid_values(
    documents: dict[str, Document], pod: Document, container: Document, config: dict[str, str]
) -> None:
    fields = {variable: field for field, variable in Settings.environment_names().items()}
    assert container["envFrom"] == [
        {"configMapRef": {"name": documents["ConfigMap"]["metadata"]["name"]}}
    ]
    assert {entry["name"] for entry in container["env"]} <= set(fields)
    assert set(config) <= set(fields)
    for variable, value in config.items():
        field = Settings.model_fields[fields[variable]]
        constrained: Any = Annotated[field.annotation, field]
        TypeAdapter(constrained).validate_python(value)
    assert pod["enableServiceLinks"] is False, "Services would inject JOBCACHE_* variables"


def test_pods_have_probes_and_a_rollout(
    documents: dict[str, Document], container: Document
) -> None:
    assert "livenessProbe" not in container
    for probe in (container["startupProbe"], container["readinessProbe"]):
        assert probe["exec"]["command"] == ["jobcache-refresher", "check"]
        assert probe["timeoutSeconds"] > 1, "an interpreter starts within it"
    startup = container["startupProbe"]
    budget = startup["periodSeconds"] * startup["failureThreshold"]
    assert budget < documents["Deployment"]["spec"]["progressDeadlineSeconds"]


def test_the_selector_matches_the_pods(documents: dict[str, Document]) -> None:
    spec = documents["Deployment"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    for document in documents.values():
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "jobcache"
        assert labels["app.kubernetes.io/component"] == "refresher"


def test_the_example_overlay_changes_three_values_only() -> None:
    base, example = (list(yaml.safe_load_all(kustomize(name))) for name in (BASE, EXAMPLE))
    for document in example:
        assert document["metadata"].pop("namespace")
    (before,), (after,) = (
        [document["spec"]["template"]["spec"] for document in found if "spec" in document]
        for found in (base, example)
    )
    assert re.fullmatch(r"[^:]+:[\w.-]+", after["containers"][0]["image"]), "a tag is set"
    assert after["volumes"] != before["volumes"]
    after["containers"][0]["image"] = before["containers"][0]["image"]
    claim = before["volumes"][0]["persistentVolumeClaim"]["claimName"]
    after["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim
    assert example == base


def test_the_page_shows_the_secret_that_the_pod_reads(container: Document) -> None:
    (block,) = DOCS["kubernetes.md"].code("yaml")
    secret = yaml.safe_load(block)
    assert secret["kind"] == "Secret"
    validate(secret)
    reference = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert secret["metadata"]["name"] == reference["name"]
    assert set(secret["stringData"]) == {reference["key"]}


def instructions(name: str) -> list[str]:
    """The arguments of every `name` instruction of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text()
    return re.findall(rf"^{name} (.+)$", text, re.MULTILINE)


def context() -> list[str]:
    """The paths that the Dockerfile copies out of the build context."""
    copies = [line.split() for line in instructions("COPY") if not line.startswith("--from=")]
    return [source for *sources, _ in copies for source in sources]


def test_dockerfile_passes_hadolint() -> None:
    command = [require("hadolint"), "--no-color", str(DEPLOY / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_as_a_numeric_user_other_than_root() -> None:
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_what_the_image_copies_builds_the_wheel_it_runs(tmp_path: Path) -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(context())
    for source in context():
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, tmp_path / source)
        else:
            shutil.copy(path, tmp_path / source)

    command = [require("hatchling"), "build", "-t", "wheel", "-d", "dist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = ConfigParser()
        scripts.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert {"jobcache/__init__.py", "jobcache_refresher/__init__.py"} <= set(names)
    assert "refresher" in metadata.get_all("Provides-Extra", [])
    (entrypoint,) = map(json.loads, instructions("ENTRYPOINT"))
    assert entrypoint[0] in scripts["console_scripts"]


def test_every_command_is_one_the_cli_has(container: Document) -> None:
    (entrypoint,) = map(json.loads, instructions("ENTRYPOINT"))
    (arguments,) = map(json.loads, instructions("CMD"))
    commands = [
        entrypoint + arguments,
        entrypoint + container["args"],
        container["startupProbe"]["exec"]["command"],
        container["readinessProbe"]["exec"]["command"],
    ]

    def helps(command: list[str]) -> bool:
        program = [require(command[0]), *command[1:], "--help"]
        return subprocess.run(program, capture_output=True, timeout=60).returncode == 0

    for command in commands:
        assert helps(command), command
    assert not helps([*entrypoint, "no-such-command"]), "--help proves nothing"
