"""Labelled crops of the photographs of EDGEKIT_ASSETS: is there a person?"""

import os
from pathlib import Path
from typing import Any

import numpy as np

_FOLDER = Path(os.environ.get("EDGEKIT_ASSETS", Path(__file__).parents[2] / "shared" / "assets")) / "data"
_CROPS = 12
_PERSON, _LEAST_AREA = 0, 0.02


def crops(side: int) -> dict[str, Any]:
    """Twelve random square crops of each of 128 photographs, labelled by whether a person fills a fiftieth of them.

    Returns:
        ``"x"`` (1536, side, side, 3) from 0 to 1, ``"y"``, and ``"photograph"``, from which each was cut.
    """
    from PIL import Image

    generator = np.random.default_rng(0)
    folder = _FOLDER / "coco_detection128"
    pixels, labels, photographs = [], [], []
    for number, file in enumerate(sorted((folder / "images").glob("*.jpg"))):
        boxes = _boxes(folder / "labels" / f"{file.stem}.txt")
        with Image.open(file) as image:
            whole = image.convert("RGB")
        for _ in range(_CROPS):
            size = int(generator.uniform(0.5, 1.0) * min(whole.size))
            left = int(generator.integers(0, whole.width - size + 1))
            top = int(generator.integers(0, whole.height - size + 1))
            crop = whole.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + size, top + size))
            pixels.append(np.asarray(crop, np.float32) / 255)
            corner = np.array([left, top]) / whole.size
            labels.append(_has_person(boxes, corner, size / np.array(whole.size)))
            photographs.append(number)
    return {"x": np.stack(pixels), "y": np.array(labels, np.uint8), "photograph": np.array(photographs)}


def _boxes(file: Any) -> Any:
    """The boxes of persons: left, top, right, bottom as shares of the photograph."""
    if not file.exists() or not file.read_text().strip():
        return np.zeros((0, 4))
    rows = np.loadtxt(file, ndmin=2)
    rows = rows[rows[:, 0] == _PERSON, 1:]
    return np.concatenate([rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2], axis=1)


def _has_person(boxes: Any, corner: Any, size: Any) -> bool:
    shown = np.minimum(boxes[:, 2:], corner + size) - np.maximum(boxes[:, :2], corner)
    return bool((np.maximum(shown, 0).prod(axis=1) / np.prod(size) >= _LEAST_AREA).any())
