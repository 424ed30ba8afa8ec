"""Masks leave as many weights as was asked for, the largest, in the pattern that was asked for."""

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.train.masks import Block, NofM, fits, mask_for, parse_pattern


def _kernel(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.83, 0.999])
def test_the_share_is_exact_and_what_goes_is_smaller_than_what_stays(sparsity):
    kernel = _kernel(3, 3, 5, 7)
    mask = mask_for(kernel, sparsity)
    assert (mask == 0).sum() == round(sparsity * kernel.size)
    assert np.abs(kernel[mask == 0]).max() < np.abs(kernel[mask == 1]).min()


def test_equal_weights_do_not_all_go():
    mask = mask_for(np.ones((4, 5), np.float32), 0.3)
    assert (mask == 0).sum() == 6


def test_what_is_zero_goes_first():
    kernel = _kernel(10, 10)
    kernel[mask_for(kernel, 0.4) == 0] = 0
    assert not np.any(mask_for(kernel, 0.6)[kernel == 0])


def test_two_of_four_input_channels_go_at_each_position():
    kernel = _kernel(3, 3, 8, 5)
    mask = mask_for(kernel, 0.5, NofM(2, 4))
    for y, x, out in np.ndindex(3, 3, 5):
        for first in (0, 4):
            group = np.abs(kernel[y, x, first : first + 4, out])
            stays = mask[y, x, first : first + 4, out]
            assert sorted(group[stays == 1]) == sorted(group)[2:]


def test_the_axes_of_a_transposed_convolution_are_its_own():
    kernel = _kernel(2, 2, 3, 8)  # outputs before inputs
    mask = mask_for(kernel, 0.5, NofM(1, 4), (-2, -1))
    assert np.array_equal(mask.reshape(2, 2, 3, 2, 4).sum(axis=-1), np.full((2, 2, 3, 2), 3))


def test_n_of_m_needs_channels_that_m_divides_and_a_pattern_needs_axes():
    assert fits(NofM(2, 4), (3, 3, 8, 5), (-1, -2))
    assert not fits(NofM(2, 4), (3, 3, 3, 5), (-1, -2))
    assert not fits(Block(1, 4), (3, 3, 8, 1), None)
    assert fits(None, (3, 3, 8, 1), None)


def test_blocks_stay_or_go_whole_and_by_their_mean():
    kernel = _kernel(6, 10)  # inputs, outputs
    mask = mask_for(kernel, 0.5, Block(4, 2))
    means = {}
    for inputs in range(0, 6, 2):
        for outputs in range(0, 10, 4):
            part = np.s_[inputs : inputs + 2, outputs : outputs + 4]
            assert len(np.unique(mask[part])) == 1
            means[float(np.abs(kernel[part]).mean())] = mask[part].max()
    stays = [means[mean] for mean in sorted(means)]
    assert stays == [0, 0, 0, 0, 1, 1, 1, 1, 1]  # round(4.5) is 4


@pytest.mark.parametrize("text", ["2:4", "4:8", "block:1x16", "block:4x4"])
def test_patterns_are_read_and_written_alike(text):
    assert str(parse_pattern(text)) == text


@pytest.mark.parametrize("text", ["", "4:2", "0:4", "block:0x4", "block:4", "1x16", "2:4 ", "99999:100000"])
def test_other_patterns_are_refused(text):
    with pytest.raises(UsageError) as caught:
        parse_pattern(text)
    assert caught.value.code == "EK750"
