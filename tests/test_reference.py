"""Comparing outputs: what is the same in another shape, and what is not the same at all."""

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.reference import one_shape


def test_axes_of_length_one_do_not_matter():
    exact = np.arange(6.0).reshape(3, 2)
    assert one_shape("y", exact, exact.reshape(3, 1, 2)).tolist() == exact.tolist()


def test_another_number_of_values_is_refused():
    with pytest.raises(ModelError, match=r"The output y was \[2\] and is \[3\] per sample"):
        one_shape("y", np.zeros((4, 2)), np.zeros((4, 3)))
