"""Two versions of one code: written by this release, or by one that knew the text alone."""

import pytest

from headrace.main_job.code_versions import is_same_code

TEXT, OTHER_TEXT = "a" * 40, "b" * 40
COMPUTES, ELSE = "c" * 16, "d" * 16


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (f"{TEXT}+{COMPUTES}", f"{TEXT}+{COMPUTES}", True),
        (f"{TEXT}+{COMPUTES}", f"{OTHER_TEXT}+{COMPUTES}", True),  # a comment
        (f"{TEXT}+{COMPUTES}", f"{TEXT}+{ELSE}", False),  # a macro
        (f"{TEXT}+2:{COMPUTES}+{ELSE}", f"{OTHER_TEXT}+2:{COMPUTES}+{COMPUTES}", True),  # the case of a keyword
        (f"{TEXT}+2:{COMPUTES}+{ELSE}", f"{TEXT}+2:{ELSE}+{ELSE}", False),
        (TEXT, f"{TEXT}+2:{COMPUTES}+{ELSE}", True),  # built before the upgrade
        (f"{TEXT}+{COMPUTES}", f"{TEXT}+2:{ELSE}+{COMPUTES}", True),  # built before the hash was made otherwise
        (f"{TEXT}+{COMPUTES}", f"{TEXT}+2:{COMPUTES}+{ELSE}", False),  # and a macro was changed since
        (f"{TEXT}+3:{ELSE}+2:{COMPUTES}", f"{OTHER_TEXT}+2:{COMPUTES}+{ELSE}", True),
        (f"{TEXT}+4:{ELSE}+3:{COMPUTES}", f"{TEXT}+2:{COMPUTES}+{ELSE}", True),
        (OTHER_TEXT, f"{TEXT}+{COMPUTES}", False),
        ("e" * 64, f"{'e' * 64}+{COMPUTES}", True),  # a seed
        ("1.0+local", "2.0+local", False),  # of a Python asset
        ("1.0", "1.0", True),
        ("", f"{TEXT}+{COMPUTES}", False),  # nothing was recorded
    ],
)
def test_two_versions_are_of_one_code(one: str, other: str, same: bool) -> None:
    assert is_same_code(one, other) is is_same_code(other, one) is same
