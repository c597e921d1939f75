"""Releases as folders: read, verified, and refused by the first thing that is wrong."""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError

from headrace.cli.user_errors import UserError
from headrace.releases.release import Release, ReleaseInfo, digest_of, file_hash
from headrace.releases.variables import is_secret, read_variables, refuse_secrets

NAME = "ingest-20260131T091500Z-0123456789ab"


def written(folder: Path, **changes: object) -> Release:
    """Write a release of two files, whose `release.json` is changed before it is signed."""
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "ingest-0.1.0-py3-none-any.whl").write_bytes(b"wheel")
    (folder / "requirements.txt").write_text("")
    names = ("requirements.txt", "wheels/ingest-0.1.0-py3-none-any.whl")
    content = {
        "format": 1,
        "name": NAME,
        "location": "ingest",
        "kind": "location",
        "member": "ingest",
        "module": "ingest.definitions",
        "revision": "0123456789ab" + "0" * 28,
        "version": "0.1.0",
        "python": "3.11",
        "packages": {"ingest": "0.1.0"},
        "variables": {"LAKE": None},
        "files": {name: file_hash(folder / name) for name in names},
        "digest": hashlib.sha256().hexdigest(),
        "built_at": "2026-01-31T10:00:00+00:00",
        **changes,
    }
    with suppress(ValidationError):  # it is refused when it is read
        content["digest"] = digest_of(ReleaseInfo.model_validate(content))
    (folder / "release.json").write_text(json.dumps(content))
    return Release.read(folder)


def test_a_release_that_is_as_it_was_built_is_verified(tmp_path: Path) -> None:
    release = written(tmp_path / NAME)
    release.verify()
    assert (release.name, release.location) == (NAME, "ingest")
    assert [wheel.name for wheel in release.wheels] == ["ingest-0.1.0-py3-none-any.whl"]
    assert release.requirements.is_file()
    assert release.contract is None
    assert release.dbt_project is None


def changed(folder: Path) -> None:
    (folder / "wheels" / "ingest-0.1.0-py3-none-any.whl").write_bytes(b"other")


def missing(folder: Path) -> None:
    (folder / "requirements.txt").unlink()


def extra(folder: Path) -> None:
    (folder / "wheels" / "evil-1.0-py3-none-any.whl").write_bytes(b"")


def linked(folder: Path) -> None:
    (folder / "requirements.txt").unlink()
    (folder / "requirements.txt").symlink_to("/dev/null")


def resigned(folder: Path) -> None:
    file = folder / "release.json"
    file.write_text(file.read_text().replace("ingest.definitions", "evil.definitions"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed, "wheels/ingest-0.1.0-py3-none-any.whl: it was changed after the build"),
        (missing, "requirements.txt: it is missing"),
        (extra, "wheels/evil-1.0-py3-none-any.whl: it is not part of the build"),
        (linked, "requirements.txt: not a plain file"),
        (resigned, "release.json: it was changed after the build"),
    ],
)
def test_a_release_that_is_not_as_it_was_built_is_refused(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    written(tmp_path / NAME)
    change(tmp_path / NAME)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / NAME}/{said}")) as raised:
        Release.read(tmp_path / NAME).verify()
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "wheels/../../outside", "", "wheels//x", "a\\b"])
def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").write_text("")
    release = written(tmp_path / NAME, files={path: "0" * 64})
    with pytest.raises(UserError, match="is not in the folder"):
        release.verify()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "a release of format 2, and this headrace reads 1"),
        ({"name": "../../ingest"}, "name: String should match pattern"),
        ({"location": "analytics"}, "is not a name for a location analytics"),
        ({"kind": "platform"}, "is not a name for a platform ingest"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"files": {"a": "short"}}, "files.a: String should match pattern"),
    ],
)
def test_a_broken_release_json_is_refused_by_its_key(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        written(tmp_path / NAME, **changes)
    assert "\n" not in raised.value.message


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a folder that `headrace release build` made"):
        Release.read(tmp_path)
    (tmp_path / "release.json").write_text("{")
    with pytest.raises(UserError, match="build it again"):
        Release.read(tmp_path)


def test_variables_are_read_and_bad_lines_are_named_without_their_values(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# of the host\n\nLAKE='/srv/my lake'\nEMPTY=\nURL=a=b\n")
    assert read_variables(file) == {"LAKE": "/srv/my lake", "EMPTY": "", "URL": "a=b"}
    file.write_text("LAKE=/srv\nexport hunter2\n")
    with pytest.raises(UserError, match=f"{file}: line 2: not NAME=VALUE") as raised:
        read_variables(file)
    assert "hunter2" not in raised.value.message
    with pytest.raises(UserError, match="No such file"):
        read_variables(tmp_path / "none")


def test_secrets_are_told_by_name_or_as_an_address_and_found_in_files(tmp_path: Path) -> None:
    assert is_secret("AWS_SECRET_ACCESS_KEY", "x")
    assert is_secret("DBT_ENV_SECRET_GIT", "x")
    assert is_secret("WAREHOUSE", "postgres://me:hunter22@host/db")
    assert not is_secret("HEADRACE_LAKE", "s3://bucket/lake")
    assert not is_secret("PARTITION_KEY", "day")
    (tmp_path / "manifest.json").write_text('{"path": "hunter22"}')
    with pytest.raises(
        UserError, match=r"^DB_PASSWORD: its value would be written into the release's manifest.json"
    ) as raised:
        refuse_secrets(tmp_path, {"DB_PASSWORD": "hunter22"})
    assert "hunter22" not in raised.value.message
    refuse_secrets(tmp_path, {"DB_PASSWORD": "another", "NAME": "hunter22"})
