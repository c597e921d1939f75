"""An option for the tests that take the longest: all tests of all members, with both kinds of changes."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-test", action="store_true", help="Run the members' slow tests on mutated files too.")
