"""Comparing outputs: what is the same in another shape, and what is not the same at all."""

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.readback import _distance


def test_axes_of_length_one_do_not_matter():
    exact = np.arange(6.0).reshape(3, 2)
    assert _distance("y", exact, exact.reshape(3, 1, 2)).max_abs == 0


def test_another_number_of_values_is_refused():
    with pytest.raises(ModelError, match=r"The output y was \[2\] and is \[3\] per sample"):
        _distance("y", np.zeros((4, 2)), np.zeros((4, 3)))
