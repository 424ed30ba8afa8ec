"""Tests of training import TensorFlow into their own process: it is what they are about."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    # Keras hands numpy 2 what numpy 1 took; nothing here can change it.
    harmless = pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    )
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(harmless)
