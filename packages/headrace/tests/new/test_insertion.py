"""Entries are added to files that people write, and every other line stays."""

import pytest
import tomlkit
import yaml

from headrace.new.insertion import InsertionError, appended, appended_inside, with_member

COMPOSE = """\
# Services.
x-location: &location {restart: always}

services:
  # The first.
  shop:
    <<: *location
    image: shop # the image

# Networks are below.
networks:
  inside: {}
configs:
  workspace:
    content: |
      # The servers.
      load_from:
        - grpc_server: {host: shop}

  last: {file: x}
"""

PYPROJECT = """\
[tool.uv.sources]
shop = { workspace = true } # a member

[dependency-groups]
dev = [
    "shop[s3]", # the shop
    "pytest", # the tests
]

[[tool.dg.workspace.projects]]
path = "projects/shop"

# Rules.
[tool.headrace]
owns = []
"""


def lines_added(before: str, after: str) -> list[str]:
    """Return the new lines; all others must be there, in their order."""
    rest = iter(before.splitlines())
    waiting = next(rest, None)
    added = []
    for line in after.splitlines():
        if line == waiting:
            waiting = next(rest, None)
        else:
            added.append(line)
    assert waiting is None
    return added


def test_an_entry_of_a_mapping_stands_after_the_last_one_and_before_the_comments_of_the_next() -> None:
    text = appended(COMPOSE, ("services",), "bank:\n  <<: *location\n  image: bank\n")
    assert lines_added(COMPOSE, text) == ["  bank:", "    <<: *location", "    image: bank"]
    assert text.index("# the image") < text.index("bank:") < text.index("# Networks")
    assert yaml.safe_load(text)["services"]["bank"] == {"restart": "always", "image": "bank"}


@pytest.mark.parametrize("end", ["", "\n", "\n\n# The end.\n"])
@pytest.mark.parametrize("margin", ["", "    "])
def test_an_entry_of_a_list_has_the_margin_of_the_others(margin: str, end: str) -> None:
    text = f"load_from: # all\n{margin}- a: 1 # one{end}"
    assert yaml.safe_load(appended(text, ("load_from",), "- a: 2\n")) == {"load_from": [{"a": 1}, {"a": 2}]}
    assert f"{margin}- a: 1 # one\n{margin}- a: 2\n" in appended(text, ("load_from",), "- a: 2\n")


def test_an_entry_in_a_block_of_text_that_is_yaml_itself() -> None:
    way = ("configs", "workspace", "content")
    text = appended_inside(COMPOSE, way, ("load_from",), "- grpc_server: {host: bank}\n")
    assert lines_added(COMPOSE, text) == ["        - grpc_server: {host: bank}"]
    inner = yaml.safe_load(yaml.safe_load(text)["configs"]["workspace"]["content"])
    assert inner == {"load_from": [{"grpc_server": {"host": "shop"}}, {"grpc_server": {"host": "bank"}}]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {shop: {}}\n", "services: no entries on lines of their own"),
        ("services:\n", "services: no entries on lines of their own"),
        ("others: {}\n", "no services"),
        ("a: [\n", "no YAML"),
        ("[]\n", "no services"),
        ("services:\n  shop: |\n    text\n    # no comment\n", "services: an entry does not fit after the last one"),
    ],
)
def test_a_file_that_is_written_otherwise_is_refused(text: str, said: str) -> None:
    with pytest.raises(InsertionError, match=said):
        appended(text, ("services",), "bank: {}\n")


def test_a_member_is_added_to_the_three_places_of_pyproject() -> None:
    text = with_member(PYPROJECT, "bank", "bank[s3]", "projects/bank")
    added = [line for line in lines_added(PYPROJECT, text) if line]
    assert added == [
        "bank = { workspace = true }",
        '    "bank[s3]",',
        "[[tool.dg.workspace.projects]]",
        'path = "projects/bank"',
    ]
    said = tomlkit.parse(text).unwrap()
    assert said["dependency-groups"]["dev"] == ["shop[s3]", "bank[s3]", "pytest"]
    assert said["tool"]["dg"]["workspace"]["projects"] == [{"path": "projects/shop"}, {"path": "projects/bank"}]


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(InsertionError, match="no TOML"):
        with_member("= a\n", "bank", "bank", "projects/bank")


@pytest.mark.parametrize("gone", ["[tool.uv.sources]", "[[tool.dg.workspace.projects]]", "[dependency-groups]"])
def test_a_pyproject_without_one_of_them_is_refused(gone: str) -> None:
    with pytest.raises(InsertionError):
        with_member(PYPROJECT.replace(gone, "[other]"), "bank", "bank", "projects/bank")


def test_import_linter_holds_the_new_location_too() -> None:
    floors = (
        '[tool.importlinter]\nroot_packages = ["shop"] # all members\n\n'
        '[[tool.importlinter.contracts]]\nid = "rooms"\nlayers = ["a", "b"]\n\n'
        '[[tool.importlinter.contracts]]\nid = "members"\nlayers = ["shop", "base"]\n'
    )
    text = with_member(PYPROJECT + "\n" + floors, "bank", "bank", "projects/bank")
    assert 'root_packages = ["shop", "bank"] # all members\n' in text
    assert 'id = "members"\nlayers = ["shop | bank", "base"]\n' in text
    assert 'id = "rooms"\nlayers = ["a", "b"]\n' in text
