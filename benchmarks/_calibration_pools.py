"""Pools of samples to draw calibration sets from, for the public models of EDGEKIT_ASSETS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from _cases import _load
from _photographs import crops

Arrays = dict[str, Any]


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


def _crops_of(side: int, *, is_channels_first: bool, bgr: bool = False) -> Callable[[], Arrays]:
    def load() -> Arrays:
        found = crops(side)
        x = found["x"][..., ::-1] if bgr else found["x"]
        return {**found, "x": np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if is_channels_first else x}

    return load


POOLS = (
    Pool("ic", "mlperf-tiny-ic/pretrainedResnet.h5", "0..255", _cifar),
    Pool("kws", "mlperf-tiny-kws/kws_ref_model", "", _speech),
    Pool("vww", "mlperf-tiny-vww/vww_96.h5", "0..1", _crops_of(96, is_channels_first=False)),
    Pool("lenet", "mnist-models/mobile-lenet-5.keras", "0..1", _digits((28, 28, 1), 1 / 255)),
    Pool("ecg", "mltk-autoencoder-ecg/autoencoder_example.h5", "0..1", _heartbeats),
    Pool("mnist-8", "mnist-models/mnist-8.onnx", "0..255", _digits((1, 28, 28), 1)),
    # Held back: no threshold was chosen by these.
    Pool("conv-fc", "mnist-models/conv_fc_mnist.tflite", "0..1", _digits((28, 28, 1), 1 / 255)),
    Pool("vww-onnx", "mlperf-tiny-vww-onnx/vww_96_float.onnx", "0..1", _crops_of(96, is_channels_first=True)),
    Pool("ic-large", "mlperf-tiny-ic/pretrainedResnet_large_float.tflite", "0..255", _cifar),
    Pool("lstm", "mnist-models/trained_lstm.tflite", "0..1", _digits((28, 28), 1 / 255)),
)
HELD_BACK = ("conv-fc", "vww-onnx", "ic-large", "lstm")
