"""Pools of samples to draw calibration sets from, for the public models of EDGEKIT_ASSETS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from _cases import ASSETS, _load

Arrays = dict[str, Any]
_CROPS = 12
_PERSON, _LEAST_AREA = 0, 0.02


@dataclass(frozen=True)
class Pool:
    """Prepared samples of one model, the labels where there are any, and which photograph each was cut from.

    ``range`` is that of the values, ``"0..255"``, ``"0..1"`` or empty for what is no picture and no waveform.
    """

    name: str
    model: str
    range: str
    load: Callable[[], Arrays]


def _digits(shape: tuple[int, ...], scale: float) -> Callable[[], Arrays]:
    def load() -> Arrays:
        arrays = _load("mnist_train60k.npz")
        chosen = np.random.default_rng(0).permutation(len(arrays["x"]))[:6000]
        x = arrays["x"][chosen].astype(np.float32).reshape(-1, *shape) * np.float32(scale)
        return {"x": x, "y": arrays["y"][chosen]}

    return load


def _cifar() -> Arrays:
    arrays = _load("cifar10_train20k.npz")
    return {"x": arrays["x"][:6000].astype(np.float32), "y": arrays["y"][:6000]}


def _speech() -> Arrays:
    return _load("speech_commands_mfcc_test2445.npz")


def _heartbeats() -> Arrays:
    return {"x": _load("ecg5000_train_normal.npz")["x"].astype(np.float32)}


def _photographs(side: int, *, is_channels_first: bool, bgr: bool = False) -> Callable[[], Arrays]:
    """Random square crops of 128 photographs, labelled by whether a person fills a fiftieth of them."""

    def load() -> Arrays:
        from PIL import Image

        generator = np.random.default_rng(0)
        folder = ASSETS / "data" / "coco_detection128"
        pixels, labels, photographs = [], [], []
        for number, file in enumerate(sorted((folder / "images").glob("*.jpg"))):
            boxes = _boxes(folder / "labels" / f"{file.stem}.txt")
            with Image.open(file) as image:
                whole = image.convert("RGB")
            for _ in range(_CROPS):
                size = int(generator.uniform(0.5, 1.0) * min(whole.size))
                left = int(generator.integers(0, whole.width - size + 1))
                top = int(generator.integers(0, whole.height - size + 1))
                crop = whole.resize(
                    (side, side), Image.Resampling.BILINEAR, (left, top, left + size, top + size)
                )
                pixels.append(np.asarray(crop, np.float32) / 255)
                corner = np.array([left, top]) / whole.size
                labels.append(_has_person(boxes, corner, size / np.array(whole.size)))
                photographs.append(number)
        x = np.stack(pixels)[..., ::-1] if bgr else np.stack(pixels)
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if is_channels_first else x
        return {"x": x, "y": np.array(labels, np.uint8), "photograph": np.array(photographs)}

    return load


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


POOLS = (
    Pool("ic", "mlperf-tiny-ic/pretrainedResnet.h5", "0..255", _cifar),
    Pool("kws", "mlperf-tiny-kws/kws_ref_model", "", _speech),
    Pool("vww", "mlperf-tiny-vww/vww_96.h5", "0..1", _photographs(96, is_channels_first=False)),
    Pool("lenet", "mnist-models/mobile-lenet-5.keras", "0..1", _digits((28, 28, 1), 1 / 255)),
    Pool("ecg", "mltk-autoencoder-ecg/autoencoder_example.h5", "0..1", _heartbeats),
    Pool("mnist-8", "mnist-models/mnist-8.onnx", "0..255", _digits((1, 28, 28), 1)),
    # Held back: no threshold was chosen by these.
    Pool("conv-fc", "mnist-models/conv_fc_mnist.tflite", "0..1", _digits((28, 28, 1), 1 / 255)),
    Pool(
        "vww-onnx", "mlperf-tiny-vww-onnx/vww_96_float.onnx", "0..1", _photographs(96, is_channels_first=True)
    ),
    Pool("ic-large", "mlperf-tiny-ic/pretrainedResnet_large_float.tflite", "0..255", _cifar),
    Pool("lstm", "mnist-models/trained_lstm.tflite", "0..1", _digits((28, 28), 1 / 255)),
)
HELD_BACK = ("conv-fc", "vww-onnx", "ic-large", "lstm")
