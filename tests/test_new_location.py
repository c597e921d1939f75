"""`headrace new location`: a second team moves in with one command, and a wrong call writes nothing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
import requests
import yaml
from clones import Clone, cloned
from installations import Host, configure, own_environment

NAME = "finance"
pytestmark = pytest.mark.slow

IS_THOROUGH = bool(os.environ.get("HEADRACE_THOROUGH"))


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Return a clone in which nothing may be written."""
    clone = cloned(tmp_path_factory.mktemp("new").resolve() / "workspace")
    yield clone
    assert clone.call("git", "status", "--short") == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Finance", "Finance: no name of a location: take 1 to 20 lower-case letters and digits, like finance"),
        ("../x", "../x: no name of a location"),
        ("fin-ance", "fin-ance: no name of a location"),
        ("a" * 21, f"{'a' * 21}: no name of a location"),
        ("platform", "platform: reserved, the image and the release of the webserver and the daemon"),
        ("warehouse", "warehouse: reserved, "),
        ("ingest", "ingest: taken, a location of workspace.yaml"),
        ("headrace", "headrace: taken, a package of uv.lock"),
        ("postgres", "postgres: taken, a service of deploy/compose.yaml"),
        ("base", "base: taken, deploy/helm/base.yaml is there"),
        ("import", "import: a word of Python"),
        ("test", "test: the location would hide the installed module test"),
        ("dagster", "dagster: taken, a package of uv.lock"),
        ("pkg1", ""),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_in_a_line(unchanged: Clone, name: str, said: str) -> None:
    if not said:  # a good name, and nothing to lock with
        done = unchanged.try_(
            "headrace", "new", "location", name, UV_OFFLINE="1", UV_CACHE_DIR=str(unchanged.root.parent)
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("Error: uv.lock: uv lock failed: ")
    else:
        done = unchanged.try_("headrace", "new", "location", name)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"Error: {said}")
    assert unchanged.call("git", "status", "--short", "--ignored") == ""


def test_a_file_with_changes_is_not_mixed_with(unchanged: Clone) -> None:
    for name in ("workspace.yaml", "uv.lock", "deploy/compose.yaml", "copier.yml"):
        file = unchanged.root / name
        before = file.read_text()
        file.write_text(f"{before}\n# mine\n")
        done = unchanged.try_("headrace", "new", "location", NAME)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"Error: {file}: it has uncommitted changes: commit or stash them\n"
        assert file.read_text() == f"{before}\n# mine\n"
        file.write_text(before)


def test_outside_of_a_workspace_and_of_git_it_says_so(tmp_path: Path, unchanged: Clone) -> None:
    outside = Clone(tmp_path).try_("headrace", "new", "location", NAME)
    assert (outside.returncode, outside.stderr.count("\n")) == (2, 1)
    assert "holds workspace.yaml" in outside.stderr
    shutil.copy(unchanged.root / "workspace.yaml", tmp_path)
    done = Clone(tmp_path).try_("headrace", "new", "location", NAME)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not a git repository" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["workspace.yaml"]


@pytest.mark.timeout(300)
@pytest.mark.some_of("lives of minutes", 1)
def test_a_change_of_the_template_reaches_a_location_that_exists(tmp_path: Path) -> None:
    clone = cloned(tmp_path / "workspace")
    # The longest names, one before and one behind the modules that are imported beside it.
    for name, options in (("a" * 20, ()), ("z" * 20, ("--dbt",))):
        clone.call("headrace", "new", "location", name, *options)
        clone.commit()
        for check in (("check",), ("format", "--check")):
            clone.call("ruff", *check, "--no-cache", f"projects/{name}")
    # Containers, Helm values and Dagster+, by the tests that ask workspace.yaml what locations there are.
    clone.call("pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", "tests/deploy")
    home = f"projects/{'a' * 20}"
    example = clone.root / home / "src" / ("a" * 20) / "defs/example.py"
    mine = example.read_text().replace("Record which Python this is.", "Record our Python.")
    assert mine != example.read_text()
    example.write_text(mine)
    (clone.root / home / "README.md").unlink()
    clone.commit()
    template = clone.root / "templates/location"
    changed = template / "src/[[ name ]]/defs/example.py.jinja"
    changed.write_text(changed.read_text().replace('kinds={"python"}', 'kinds={"python", "table"}'))
    (template / "CHANGES.md.jinja").write_text("What [[ name ]] is.\n")
    clone.commit()
    clone.call("copier", "update", "--defaults", "--vcs-ref", "HEAD", cwd=home)
    assert example.read_text() == mine.replace('kinds={"python"}', 'kinds={"python", "table"}')
    assert (clone.root / home / "CHANGES.md").read_text() == f"What {'a' * 20} is.\n"
    assert not (clone.root / home / "README.md").exists()
    answers = (clone.root / home / ".copier-answers.yml").read_text()
    # A hash of digits alone is in quotes.
    assert yaml.safe_load(answers)["_commit"] == clone.call("git", "rev-parse", "--short", "HEAD").strip()
    assert str(clone.root) not in answers


@pytest.mark.slow("an environment, a main job, a member's tests, a release and a deploy of a new location")
# Four minutes of one core, and as much again on a busy machine: an environment, a main job, a member's tests, a deploy.
@pytest.mark.timeout(900)
@pytest.mark.some_of("lives of minutes", 1)
def test_a_second_team_moves_in_with_a_dbt_project_and_nothing_edited_by_hand() -> None:
    root = Path(tempfile.mkdtemp(prefix="hr-")) / "workspace"
    try:
        clone = cloned(root)
        assert f"projects/{NAME} is there" in clone.call("headrace", "new", "location", NAME, "--dbt")
        changed = [line.split() for line in clone.call("git", "diff", "--numstat").splitlines()]
        gone = {file: int(lines) for _, lines, file in changed if int(lines)}
        assert (len(changed), gone) == (6, {"pyproject.toml": 2}), "two lines of import-linter's contract name it too"
        clone.commit()
        # The variable of this name and the option exclude each other.
        clone.call("env", "-u", "UV_COMPILE_BYTECODE", "uv", "sync", "--locked", "--quiet", "--no-compile-bytecode")
        clone = Clone(root, root / ".venv" / "bin")
        _affected(clone)  # edits a model, which nothing else may see
        with ThreadPoolExecutor(2) as pool:
            # Two lanes for two cores.
            for lane in [pool.submit(lane, clone) for lane in (_check_and_test, _run_and_deploy)]:
                lane.result()
        assert clone.call("git", "status", "--short") == ""
    finally:
        shutil.rmtree(root.parent)


def _check_and_test(clone: Clone) -> None:
    """Run `make check`, or what of it bears on the new location, and the member's own tests."""
    if IS_THOROUGH:
        clone.call("make", "check")
    else:
        clone.call("ruff", "check", "--no-cache")
        clone.call("ruff", "format", "--check", "--no-cache")
        target = str(clone.root / ".headrace/check" / NAME)
        paths = {"HEADRACE_LAKE": "lake", "HEADRACE_WAREHOUSE": f"{target}/warehouse.duckdb"}
        Path(target).mkdir(parents=True)
        home = f"projects/{NAME}/dbt"
        clone.call("sqlfluff", "lint", "--disable-progress-bar", "models", "tests", cwd=home, **paths)
        strict = ("--quiet", "--warn-error", "parse", "--show-all-deprecations", "--no-partial-parse")
        clone.call("dbt", *strict, "--target-path", target, "--log-path", target, cwd=home, **paths)
        clone.call("make", "--old-file=install", "docs")
        in_all = clone.call("make", "--dry-run", "check")
        assert f"dbt projects/{NAME}/dbt" in in_all
    assert "passed" in clone.call(".ci/test-member", NAME, "-q")


def _run_and_deploy(clone: Clone) -> None:
    exports = clone.root / ".headrace/exports"
    days = ("--from", "2024-01-01", "--to", "2024-01-02", "--orders-per-day", "30")
    clone.call("headrace", "demo-data", "--out", exports, *days)
    report = json.loads(clone.call("headrace", "run", "--format", "json"))
    built = {asset["key"]: asset for asset in report["assets"]}
    assert built[f"{NAME}_store_days"]["partitions"] == 2
    assert built["store_months"]["partitions"] == 1
    assert f"{NAME}/example" in built
    sums = [
        _rows(clone.root / ".headrace" / file, f"select sum({column})::bigint from {table}")
        for file, table, column in (
            ("warehouse.duckdb", "orders", "order_total_cents"),
            (f"{NAME}.duckdb", f"{NAME}_store_days", "revenue_cents"),
        )
    ]
    assert sums[0] == sums[1] != [(None,)]
    assert clone.call("headrace", "contract", "check") == f"contracts hold: ingest, analytics, {NAME}\n"
    one_file = {f"HEADRACE_{NAME.upper()}_WAREHOUSE": str(clone.root / ".headrace/warehouse.duckdb")}
    for command, code in ((("run",), 2), *([(("contract", "check"), 1)] if IS_THOROUGH else [])):
        refused = clone.try_("headrace", *command, **one_file)
        assert refused.returncode == code
        said = (refused.stdout + refused.stderr).splitlines()[-1].removeprefix("Error: ")
        assert said.startswith(
            f"{clone.root}/.headrace/warehouse.duckdb: the dbt projects of analytics and {NAME} write"
        )
    _serve(clone)
    _deploy(clone)


def _rows(file: Path, sql: str) -> Sequence[tuple[object, ...]]:
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def _serve(clone: Clone) -> None:
    """Load all locations as `dg dev` does, and in full `dg dev` itself, whose pages are tested with the other two."""
    told = clone.call("sh", "-c", 'eval "$(headrace init)" && dg check defs --use-active-venv && dg list projects')
    assert "All definitions loaded successfully" in told
    assert f"projects/{NAME}" in told
    if IS_THOROUGH:
        script = 'eval "$(headrace init)" && exec dg dev --use-active-venv --host 127.0.0.1 --port "$0"'
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        served = subprocess.Popen(
            ["sh", "-c", script, str(port)],  # noqa: S607 - the PATH is the clone's
            cwd=clone.root,
            env=clone.environment(),
            start_new_session=True,
        )
        try:
            assert f"{NAME}_store_days" in _assets_at(port, served)
        finally:
            os.killpg(served.pid, signal.SIGINT)
            served.wait(60)


def _assets_at(port: int, served: subprocess.Popen[bytes]) -> Collection[str]:
    """Return the assets that a webserver shows of the new location, once it serves."""
    query = "{ assetNodes { assetKey { path } repository { location { name } } } }"
    for _ in range(1200):
        assert served.poll() is None
        with suppress(requests.ConnectionError):
            answer = requests.post(f"http://127.0.0.1:{port}/graphql", json={"query": query}, timeout=120).json()
            nodes = [node for node in answer["data"]["assetNodes"] if node["repository"]["location"]["name"] == NAME]
            return {"/".join(node["assetKey"]["path"]) for node in nodes}
        time.sleep(0.2)
    pytest.fail("dg dev does not serve")


def _affected(clone: Clone) -> None:
    model = clone.root / f"projects/{NAME}/dbt/models/marts/daily/{NAME}_store_days.sql"
    text = model.read_text()
    assert text.count("select\n"), "the model has changed"
    model.write_text(text.replace("select\n", "select distinct\n", 1))
    answer = json.loads(clone.call("headrace", "affected", "--base", "HEAD", "--format", "json"))
    model.write_text(text)
    assert answer["members"] == [NAME, "headrace-workspace"]
    assert answer["deploy"] == [NAME]
    assert answer["assets"] == [f"{NAME}_store_days"]


def _deploy(clone: Clone) -> None:
    """Build the release and deploy it beside that of the location it reads, into an installation of its own."""
    top = clone.root.parent
    host = Host(top / "at", top / "dist", own_environment())
    clone.call("headrace", "release", "init", host.folder)
    configure(host.folder)
    supervisor = host.start("up")
    try:
        host.wait_until((host.folder / "run/supervisor.sock").exists)
        for name in ("ingest", NAME):
            options = ("--out", host.builds, "--env-file", host.folder / "env")
            release = clone.call("headrace", "release", "build", name, *map(str, options)).strip()
            host.deploy(Path(release))
            assert host.serving(name)["release"] == Path(release).name
        # The new mart hangs on the other location's asset.
        (read,) = json.loads(Path(release, "contract.json").read_text())["consumes"]
        assert read["key"] == "raw/orders"
        assert [asked["by"] for asked in read["asked"]] == [f"{NAME}_store_days"]
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(60)
