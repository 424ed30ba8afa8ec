import pytest


@pytest.fixture
def one_worker():
    """Here it matters how many there are."""
