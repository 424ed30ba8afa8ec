"""What workers are given: every sample once and in order, in a bounded amount of shared memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.answering import feed as feed_module
from edgekit.answering.feed import UNDER_WAY, Feed
from edgekit.answering.mailbox import Mailbox
from edgekit.data import Batch, open_dataset


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 700),
    workers=st.integers(1, 4),
    rates=st.lists(st.sampled_from([0.0, 3.0, 400.0, 1e4, 1e6]), min_size=1),
    ahead=st.booleans(),
    small=st.booleans(),
)
def test_every_sample_once_and_in_order(tmp_path_factory, count, workers, rates, ahead, small):
    path = tmp_path_factory.mktemp("d") / "d.npz"
    x = np.arange(3 * count, dtype=np.int16).reshape(count, 3)
    np.savez(path, x=x, y=np.arange(count))
    with pytest.MonkeyPatch.context() as patch:
        if small:  # three or more slots, and none to spare
            patch.setattr(feed_module, "_READ_AHEAD_BYTES", 1)
            patch.setattr(feed_module, "_MAX_BATCH", 40)
        feed = Feed(open_dataset(path), workers)
    if ahead:
        feed.read_ahead()
    reader = Mailbox(*feed.memory, feed.mailbox.descriptor)  # as a worker sees it
    under_way, seen = [], []
    for number in range(10_000):
        letter = feed.take(rates[number % len(rates)])
        if letter is not None:
            under_way.append(letter)
        if letter is None or len(under_way) == UNDER_WAY * workers:
            if not under_way:
                break
            answered = under_way.pop(0)
            batch = reader.open(answered)
            assert batch.first == answered.first == len(seen)
            np.testing.assert_array_equal(batch.inputs["x"], x[batch.first : batch.first + batch.count])
            seen.extend(batch.labels.tolist())
            feed.mailbox.answered(answered)
    assert seen == list(range(count))
    feed.mailbox.close()


def test_slow_models_get_small_batches_and_the_end_is_shared(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((5000, 4), np.float32))
    feed = Feed(open_dataset(tmp_path / "d.npz"), 2)
    assert feed.take(40.0).count == 4  # 20 per second and worker: a fifth of a second is four
    assert feed.take(1e6).count == 1020  # what is left of the first 1024
    counts = [feed.take(20_000.0).count for _ in range(7)]
    # A quarter of what is left would be 994; the 30 that remained of the batch of 1024 are not worth a message.
    assert counts[0] == 1024
    assert sum(counts) <= 5000 - 1024
    assert min(counts) >= 50
    while letter := feed.take(20_000.0):
        counts.append(letter.count)
    assert sum(counts) == 5000 - 1024
    assert counts[-1] < 200


def test_a_batch_too_large_for_its_slot_travels_by_itself():
    mailbox = Mailbox(64, 2)
    small, large = (Batch({"x": np.arange(n, dtype=np.uint8)[:, None]}, None, 0) for n in (64, 65))
    in_memory, alone = mailbox.put(small), mailbox.put(large)
    assert (in_memory.batch, alone.batch) == (None, large)
    assert mailbox.open(alone.part(60, 65)).inputs["x"].ravel().tolist() == [60, 61, 62, 63, 64]
    assert mailbox.open(in_memory.part(60, 64)).inputs["x"].ravel().tolist() == [60, 61, 62, 63]
    mailbox.put(small)
    assert not mailbox.has_room
    mailbox.answered(in_memory.part(0, 10))
    assert not mailbox.has_room
    mailbox.answered(in_memory.part(10, 64))
    assert mailbox.has_room
    mailbox.close()
