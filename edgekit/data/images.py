"""Folders of images: ``FOLDER/<class>/*.png|jpg``, the classes in sorted order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgekit import files
from edgekit.data.sources import Batch
from edgekit.errors import DataError
from edgekit.preprocessing import pillow
from edgekit.tensor import Array

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
# A decoded image of this size takes 0.5 GB; a small file can claim far more.
_MAX_PIXELS = 180_000_000


class FolderSource:
    """Raw samples are paths; images without class folders have no labels.

    Args:
        folder: Where the classes' folders, or the images themselves, are.
        labels: The class names in the order of the model's outputs; empty for sorted folder order.
    """

    names: tuple[str, ...] = ("x",)

    def __init__(self, folder: Path, labels: Sequence[str] = ()) -> None:
        pillow()
        self._folder = folder
        found = sorted(child.name for child in folder.iterdir() if child.is_dir() and _images(child))
        self.has_labels = bool(found)
        self.class_names = tuple(labels) or tuple(found)
        unknown = [name for name in found if name not in self.class_names]
        if unknown:
            raise DataError(
                "EK208",
                f"The folder {folder / unknown[0]} is no class of the contract.",
                f"The contract's labels: {', '.join(self.class_names)}.",
            )
        self._files = [
            (file, self.class_names.index(name)) for name in found for file in _images(folder / name)
        ]
        if not found:
            self._files = [(file, -1) for file in _images(folder)]
        if not self._files:
            raise DataError(
                "EK202",
                f"{folder} holds no images.",
                "Images lie in FOLDER/<class>/ and end in .png or .jpg.",
            )

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self._files)

    def sample_shape(self, name: str) -> tuple[int, ...] | None:  # noqa: ARG002 - of the protocol
        """Known only after decoding and preprocessing."""
        return None

    def batches(self, size: int) -> Iterator[Batch]:
        """Paths, ``size`` at a time."""
        for first in range(0, self.count, size):
            part = self._files[first : first + size]
            labels = np.array([label for _, label in part]) if self.has_labels else None
            yield Batch({"x": np.array([str(file) for file, _ in part])}, labels, first)

    def digest(self) -> str:
        """sha256 of the names and contents of the folder's files."""
        return files.sha256(self._folder)


def decode(paths: Array) -> list[Array]:
    """Images as RGB arrays of shape (H, W, 3), or (H, W) for those stored in gray.

    Raises:
        DataError: A file is no image, or is truncated.
    """
    image_module = pillow()
    decoded = []
    for path in paths.tolist():
        try:
            with image_module.open(path) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise DataError(
                        "EK214", f"{path} has {image.width} x {image.height} pixels.", "Make it smaller."
                    )
                if image.mode.startswith(("I", "F")):
                    raise DataError(
                        "EK214", f"{path} has more than 8 bits per channel.", "Save it with 8 bits."
                    )
                gray = image.mode in {"L", "1"}
                decoded.append(np.asarray(image.convert("L" if gray else "RGB")))
        except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
            raise DataError(
                "EK214", f"{path} cannot be read as an image: {error}.", "Remove or replace it."
            ) from error
    return decoded


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
