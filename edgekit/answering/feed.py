"""The order of work: raw batches read ahead, and cut smaller towards the end so that workers end together."""

from collections import deque

from edgekit.answering.mailbox import slot_bytes
from edgekit.data import Batch, Dataset
from edgekit.tensor import element_count

_READ_AHEAD_BYTES = 32 << 20
_BATCH_BYTES = 4 << 20
_MAX_BATCH = 256
# Long enough that messages cost little, short enough that progress is seen and workers end together.
_PIECE_S = 0.1
# Images of unknown size count as the usual 224 x 224 pixels.
_IMAGE_VALUES = 224 * 224 * 3


class Feed:
    """Raw batches of a dataset for a number of workers."""

    def __init__(self, data: Dataset, workers: int) -> None:
        self._workers = workers
        self._remaining = data.count
        self._size = batch_size(data, limit_bytes=_BATCH_BYTES, most=_MAX_BATCH)
        self._batches = data.raw_batches(self._size)
        self._ahead: deque[Batch] = deque([next(self._batches)])
        self.slot_bytes = slot_bytes(self._ahead[0])

    @property
    def sample(self) -> Batch:
        """The first sample, which workers try before the time is taken."""
        return self._ahead[0].part(0, 1)

    def read_ahead(self) -> None:
        """Read what fits into a bounded amount of memory, while the workers start."""
        size = self.slot_bytes
        for batch in self._batches:
            self._ahead.append(batch)
            size += slot_bytes(batch)
            if size > _READ_AHEAD_BYTES:
                break

    def take(self, samples_per_second: float) -> Batch | None:
        """The next batch: what a worker answers in a tenth of a second, towards the end less; None at the end.

        Args:
            samples_per_second: The rate of all workers so far, 0 when it is not known yet.
        """
        if not self._ahead:
            following = next(self._batches, None)
            if following is None:
                return None
            self._ahead.append(following)
        batch = self._ahead.popleft()
        quick = int(samples_per_second / self._workers * _PIECE_S) or self._size // 8
        fair = max(1, min(quick, max(self._size // 8, self._remaining // (2 * self._workers))))
        if fair < batch.count:
            self._ahead.appendleft(batch.part(fair, batch.count))
            batch = batch.part(0, fair)
        self._remaining -= batch.count
        return batch


def batch_size(data: Dataset, *, limit_bytes: int, most: int) -> int:
    """How many samples of a dataset fit into so much memory as float32."""
    shapes = [data.source.sample_shape(name) for name in data.source.names]
    sizes = [_IMAGE_VALUES if shape is None else element_count(shape) for shape in shapes]
    return max(1, min(most, data.count, limit_bytes // (4 * max(1, sum(sizes)))))
