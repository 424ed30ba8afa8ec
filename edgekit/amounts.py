"""Amounts as people write them: ``50%``, ``32KB``, ``6M``."""

import re
from collections.abc import Mapping

from edgekit.errors import UsageError

BYTES = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "KIB": 1024, "MIB": 1024**2}
COUNTS = {"": 1, "K": 1000, "M": 1000**2}


def amount(option: str, given: str | float | None, units: Mapping[str, int]) -> float | None:
    """``"50%"`` as 0.5, ``"32KB"`` as 32000.0; numbers as they are.

    Args:
        option: Where it was given, for the message.
        given: A text or a number; None stays None.
        units: What each unit is worth, by its name in capitals.

    Raises:
        UsageError: It is no such thing.
    """
    if given is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z%]*)\s*", str(given))
    unit = found[2].upper() if found else "?"
    if found and unit == "%" and 0 < float(found[1]) < 100:
        return float(found[1]) / 100
    if not found or unit not in units or float(found[1]) <= 0:
        known = ", ".join(["50%", *(f"100{name}" for name in units if name)])
        raise UsageError("EK746", f"{option} is {given!r}, which is no amount.", f"Write it like {known}.")
    return float(found[1]) * units[unit]
