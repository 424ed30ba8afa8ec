"""Lay out a flatbuffer in as few bytes as the format allows.

Code that flatc generated writes a buffer from its end to its beginning, as the calls come, and fills up
with zeros wherever the next value must be aligned. Here its calls are recorded as blocks instead: strings,
vectors, tables and tables' field maps. Equal blocks become one. Then the blocks are placed from the
beginning, each time one that fits without a gap where there is one.
"""

import struct
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers.number_types import UOffsetTFlags

_WORD = 4  # the size of offsets, of vectors' lengths, and the smallest alignment of tables and vectors
_PERIOD = 16  # the widest alignment in .tflite files: addresses matter modulo this


@dataclass(frozen=True)
class Block:
    """Bytes that stay together.

    ``content[aligned_at]`` must come to lie on a multiple of ``alignment``. Each of ``references`` is a
    position in ``content`` and the number of the block whose distance belongs there. A table's ``field_map``
    is the block that the offset at its position 0 leads to.
    """

    content: bytes
    alignment: int
    aligned_at: int = 0
    references: tuple[tuple[int, int], ...] = ()
    field_map: int | None = None


class BlockRecorder(flatbuffers.Builder):  # type: ignore[misc]
    """Takes the calls that generated code makes to a flatbuffers builder.

    The "offsets" that it gives back are numbers of blocks, counted from 1: generated code takes 0 for an
    absent field.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.blocks: list[Block] = []
        self._numbers: dict[Block, int] = {}
        self._fields: list[tuple[int, Any, Any]] = []
        self._items: list[bytes] = []
        self._targets: list[int] = []
        self._alignment = 1
        self._count = 0

    def finish(self, root: int, identifier: bytes) -> bytes:
        """The flatbuffer whose root table is block ``root``."""
        return _place(self.blocks, root, identifier)

    def create_bytes(self, data: bytes, alignment: int) -> int:
        """A vector of bytes that begins at a multiple of ``alignment``."""
        return self._vector(len(data), data, alignment)

    # What follows replaces the methods of flatbuffers.Builder that generated code calls, or that those call.

    def CreateString(self, s: bytes | str, encoding: str = "utf-8", errors: str = "strict") -> int:
        text = s.encode(encoding, errors) if isinstance(s, str) else s
        return self._add(Block(struct.pack("<I", len(text)) + text + b"\0", _WORD))

    def CreateNumpyVector(self, x: np.ndarray[Any, Any]) -> int:
        return self._vector(x.size, x.astype(x.dtype.newbyteorder("<")).tobytes(), x.itemsize)

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        self._items, self._targets = [], []
        self._count, self._alignment = numElems, max(elemSize, alignment)
        return 0

    def Prepend(self, flags: Any, off: Any) -> None:
        self._items.append(flags.packer_type.pack(off))

    def PrependUOffsetTRelative(self, off: int) -> None:
        self._targets.append(off)

    def EndVector(self, numElems: int | None = None) -> int:  # noqa: ARG002 - the builder's signature
        if not self._targets:
            return self._vector(self._count, b"".join(reversed(self._items)), self._alignment)
        places = range(_WORD, _WORD * (self._count + 1), _WORD)
        references = tuple(zip(places, reversed(self._targets), strict=True))
        return self._add(
            Block(struct.pack("<I", self._count) + bytes(_WORD * self._count), _WORD, 0, references)
        )

    def StartObject(self, numfields: int) -> None:
        self._fields = []
        self._count = numfields

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:
        if x != d:
            self._fields.append((o, flags, x))

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:
        if x != d:
            self._fields.append((o, UOffsetTFlags, x))

    def EndObject(self) -> int:
        """Write the fields by falling size, which leaves no gaps between them."""
        content, references, places = bytearray(_WORD), [], [0] * self._count
        for slot, flags, value in sorted(self._fields, key=lambda field: (-field[1].bytewidth, field[0])):
            places[slot] = len(content)
            if flags is UOffsetTFlags:
                references.append((len(content), value))
            content += flags.packer_type.pack(0 if flags is UOffsetTFlags else value)
        last = max((slot for slot, place in enumerate(places) if place), default=-1)
        sizes = (2 * (last + 3), len(content), *places[: last + 1])
        field_map = self._add(Block(struct.pack(f"<{len(sizes)}H", *sizes), 2))
        widest = max((flags.bytewidth for _, flags, _ in self._fields), default=_WORD)
        aligned = (widest, _WORD) if widest > _WORD else (_WORD, 0)
        return self._add(Block(bytes(content), *aligned, tuple(references), field_map))

    def _vector(self, count: int, data: bytes, alignment: int) -> int:
        aligned = (alignment, _WORD) if alignment > _WORD else (_WORD, 0)
        return self._add(Block(struct.pack("<I", count) + data, *aligned))

    def _add(self, block: Block) -> int:
        if block not in self._numbers:
            self.blocks.append(block)
            self._numbers[block] = len(self.blocks)
        return self._numbers[block]


def _place(blocks: list[Block], root: int, identifier: bytes) -> bytes:
    """Write the offset of the root table, the identifier, and every block at its place."""
    places, size = _Placement(blocks, root, _WORD + len(identifier)).run()
    content = bytearray(size)
    struct.pack_into("<I", content, 0, places[root])
    content[_WORD : _WORD + len(identifier)] = identifier
    for number, place in places.items():
        block = blocks[number - 1]
        content[place : place + len(block.content)] = block.content
        for position, target in block.references:
            struct.pack_into("<I", content, place + position, places[target] - place - position)
        if block.field_map is not None:
            struct.pack_into("<i", content, place, place - places[block.field_map])
    return bytes(content)


@dataclass(frozen=True)
class _Kind:
    """Blocks that fit equally well: they need the same address and leave the same one behind."""

    alignment: int
    residue: int  # the address of the block, modulo its alignment
    size: int  # modulo _PERIOD
    reach: int  # the widest alignment among the blocks that it refers to, directly or not

    def gap(self, address: int) -> int:
        return (self.residue - address) % self.alignment


class _Placement:
    """Chooses addresses: offsets lead forward only, so a block comes after all that refer to it.

    The greedy rule: the widest block that fits here; else one that makes a wider one fit behind it; else
    one that brings wide blocks into play, so that they come while there are small ones to fill gaps with.
    """

    def __init__(self, blocks: list[Block], root: int, start: int) -> None:
        self._blocks = blocks
        self._reach = self._reaches()
        self._waiting = Counter(target for block in blocks for target in {t for _, t in block.references})
        self._ready: dict[_Kind, deque[int]] = defaultdict(deque)
        self._address = start
        self._make_ready(root)
        for number in {block.field_map for block in blocks if block.field_map is not None}:
            self._make_ready(number)

    def run(self) -> tuple[dict[int, int], int]:
        """The address of each block by its number, and the size of the whole."""
        places = {}
        while self._ready:
            kind = self._choose()
            number = self._ready[kind].popleft()
            if not self._ready[kind]:
                del self._ready[kind]
            block = self._blocks[number - 1]
            places[number] = self._address + kind.gap(self._address)
            self._address = places[number] + len(block.content)
            for target in {target for _, target in block.references}:
                self._waiting[target] -= 1
                if not self._waiting[target]:
                    self._make_ready(target)
        return places, self._address

    def _choose(self) -> _Kind:
        wide = [kind for kind in self._ready if kind.alignment > _WORD]

        def cost(kind: _Kind) -> tuple[int, ...]:
            gap = kind.gap(self._address)
            behind = self._address + gap + kind.size
            fits_behind = max((other.alignment for other in wide if not other.gap(behind)), default=0)
            return (gap, -kind.alignment, -fits_behind, -kind.reach, kind.size, kind.residue)

        return min(self._ready, key=cost)

    def _make_ready(self, number: int) -> None:
        block = self._blocks[number - 1]
        residue = -block.aligned_at % block.alignment
        kind = _Kind(block.alignment, residue, len(block.content) % _PERIOD, self._reach[number])
        self._ready[kind].append(number)

    def _reaches(self) -> dict[int, int]:
        reach: dict[int, int] = {}
        # A block is recorded after those it refers to.
        for number, block in enumerate(self._blocks, 1):
            reach[number] = max([block.alignment, *(reach[target] for _, target in block.references)])
        return reach
