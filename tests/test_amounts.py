"""Amounts with units."""

import pytest

from edgekit.amounts import BYTES, COUNTS, amount
from edgekit.errors import UsageError


@pytest.mark.parametrize(
    ("given", "expected"),
    [("50%", 0.5), (0.5, 0.5), ("32KB", 32_000), ("32 kib", 32_768), ("1.5MB", 1_500_000), (7000, 7000)],
)
def test_amounts_are_read(given, expected):
    assert amount("--target-size", given, BYTES) == expected


@pytest.mark.parametrize("given", ["", "0", "120%", "0%", "-3", "32XB", "nan", "1e999", "50 % of it"])
def test_other_amounts_are_refused(given):
    with pytest.raises(UsageError, match="--target-size is") as caught:
        amount("--target-size", given, BYTES)
    assert caught.value.code == "EK746"


def test_counts_have_units_too():
    assert amount("--target-macs", "6M", COUNTS) == 6_000_000
    assert amount("--target-macs", None, COUNTS) is None
