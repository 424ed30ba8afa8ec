"""The order of work: raw batches read ahead, and cut smaller towards the end so that workers end together."""

from collections import deque

from edgekit.answering.mailbox import Letter, Mailbox, slot_bytes
from edgekit.data import Batch, Dataset
from edgekit.tensor import element_count

_READ_AHEAD_BYTES = 24 << 20
_BATCH_BYTES = 8 << 20
_MAX_BATCH = 1024
# A message costs parent and worker a third of a millisecond each: pieces are long enough that this is little,
# and short enough that progress is seen and workers end together.
_PIECE_S = 0.2
_SHORTEST_PIECE_S = 0.01
# One batch being answered and one waiting, so that a worker never waits for the parent.
UNDER_WAY = 2
# Images of unknown size count as the usual 224 x 224 pixels.
_IMAGE_VALUES = 224 * 224 * 3


class Feed:
    """Raw batches of a dataset for a number of workers, in the memory that they share."""

    def __init__(self, data: Dataset, workers: int) -> None:
        self._workers = workers
        self._remaining = data.count
        self._size = batch_size(data, limit_bytes=_BATCH_BYTES, most=_MAX_BATCH)
        self._batches = data.raw_batches(self._size)
        first = next(self._batches)
        room = max(1, slot_bytes(first))
        # Every piece under way may hold a slot of its own, and the next batch needs one too.
        slots = max(UNDER_WAY * workers + 1, _READ_AHEAD_BYTES // room)
        self.memory = (room, min(slots, -(-data.count // self._size)))
        self.mailbox = Mailbox(*self.memory)
        self._letters: deque[Letter] = deque([self.mailbox.put(first)])
        self.sample: Batch = first.part(0, 1)

    def read_ahead(self) -> None:
        """Fill the shared memory while the workers start."""
        while self.mailbox.has_room and self._read():
            pass

    def take(self, samples_per_second: float) -> Letter | None:
        """What a worker answers in a fifth of a second, towards the end less; None at the end.

        Args:
            samples_per_second: The rate of all workers so far.
        """
        if not self._letters and not self._read():
            return None
        letter = self._letters.popleft()
        rate = samples_per_second / self._workers
        share = max(self._remaining // (2 * self._workers), int(rate * _SHORTEST_PIECE_S))
        fair = max(1, min(share, int(rate * _PIECE_S)))
        # A rest too small to be worth a message goes with what it is the rest of.
        if letter.count > fair + fair // 2:
            self._letters.appendleft(letter.part(fair, letter.count))
            letter = letter.part(0, fair)
        self._remaining -= letter.count
        return letter

    def _read(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        self._letters.append(self.mailbox.put(batch))
        return True


def batch_size(data: Dataset, *, limit_bytes: int, most: int) -> int:
    """How many samples of a dataset fit into so much memory as float32."""
    shapes = [data.source.sample_shape(name) for name in data.source.names]
    sizes = [_IMAGE_VALUES if shape is None else element_count(shape) for shape in shapes]
    return max(1, min(most, data.count, limit_bytes // (4 * max(1, sum(sizes)))))
