"""The public models of EDGEKIT_ASSETS as a user would bring them, with calibration and test data prepared.

Calibration never sees test samples: where a model comes with a test set only, every tenth (or fourth) sample
calibrates and the others test.
"""

import os
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _photographs import crops

ASSETS = Path(os.environ.get("EDGEKIT_ASSETS", Path(__file__).parents[2] / "shared" / "assets")).resolve()
CALIBRATION_COUNT = 320
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A model, how its data are prepared, and by which metric it is judged."""

    name: str
    model: str
    prepare: Callable[[Path], tuple[Arrays, Arrays]]
    metric: str = "top1"

    @property
    def path(self) -> Path:
        """The model file or folder."""
        return ASSETS / self.model

    @property
    def suffix(self) -> str:
        """The format that it is quantized to."""
        return ".onnx" if self.model.endswith(".onnx") else ".tflite"

    def data(self, folder: Path) -> tuple[Path, Path]:
        """Write calibration and test data into ``folder``; returns both files."""
        files = (folder / f"{self.name}-calibration.npz", folder / f"{self.name}-test.npz")
        if not files[1].exists():
            for file, arrays in zip(files, self.prepare(self.path), strict=True):
                np.savez(file, **arrays)
        return files


def _load(name: str) -> Arrays:
    with np.load(ASSETS / "data" / name) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _split(arrays: Arrays, every: int) -> tuple[Arrays, Arrays]:
    chosen = np.arange(len(arrays["x"])) % every == 0
    return (
        {key: values[chosen] for key, values in arrays.items()},
        {key: values[~chosen] for key, values in arrays.items()},
    )


def _some(arrays: Arrays) -> Arrays:
    rows = np.linspace(0, len(arrays["x"]) - 1, CALIBRATION_COUNT).astype(int)
    return {key: values[rows] for key, values in arrays.items()}


def _cifar(_model: Path) -> tuple[Arrays, Arrays]:
    """Raw 0..255 as float."""
    train, test = _some(_load("cifar10_train20k.npz")), _load("cifar10_test5k.npz")
    return tuple({"x": part["x"].astype(np.float32), "y": part["y"]} for part in (train, test))  # type: ignore[return-value]


def _speech(_model: Path) -> tuple[Arrays, Arrays]:
    return _split(_load("speech_commands_mfcc_test2445.npz"), 10)


def _person(_model: Path) -> tuple[Arrays, Arrays]:
    arrays = _load("coco_person96_128.npz")
    return _split({"x": arrays["x"].astype(np.float32) / 255, "y": arrays["y"]}, 4)


def _person_channels_first(model: Path) -> tuple[Arrays, Arrays]:
    parts = _person(model)
    return tuple({"x": part["x"].transpose(0, 3, 1, 2), "y": part["y"]} for part in parts)  # type: ignore[return-value]


def _person_crops(*, is_channels_first: bool) -> Callable[[Path], tuple[Arrays, Arrays]]:
    """The crops of every fourth photograph calibrate, those of the others test: no photograph is in both."""

    def prepare(_model: Path) -> tuple[Arrays, Arrays]:
        found = crops(96)
        calibrates = found.pop("photograph") % 4 == 0
        if is_channels_first:
            found["x"] = np.ascontiguousarray(found["x"].transpose(0, 3, 1, 2))
        calibration = {key: values[calibrates] for key, values in found.items()}
        return _some(calibration), {key: values[~calibrates] for key, values in found.items()}

    return prepare


def _heartbeats(_model: Path) -> tuple[Arrays, Arrays]:
    return _some(_load("ecg5000_train_normal.npz")), _load("ecg5000_test1333.npz")


def _digits(shape: tuple[int, ...], scale: float) -> Callable[[Path], tuple[Arrays, Arrays]]:
    def prepare(_model: Path) -> tuple[Arrays, Arrays]:
        train, test = _some(_load("mnist_train60k.npz")), _load("mnist_test5k.npz")
        return tuple(  # type: ignore[return-value]
            {"x": part["x"].astype(np.float32).reshape(-1, *shape) * np.float32(scale), "y": part["y"]}
            for part in (train, test)
        )

    return prepare


def _speech_frames(model: Path) -> tuple[Arrays, Arrays]:
    """Magnitudes, blocks and states as they occur when the float networks clean up four noises."""
    import onnxruntime

    folder = model.parent
    first, second = (onnxruntime.InferenceSession(str(folder / f"model_{number}.onnx")) for number in (1, 2))
    rows: dict[int, list[list[Any]]] = {1: [], 2: []}
    for file in sorted((ASSETS / "noises10s").glob("*.wav")):
        samples = _waveform(file)
        states = [np.zeros(list(s.get_inputs()[1].shape), np.float32) for s in (first, second)]
        for start in range(0, len(samples) - 512, 128):
            block = samples[start : start + 512]
            spectrum = np.fft.rfft(block)
            given = [np.abs(spectrum).astype(np.float32).reshape(1, 1, -1), states[0]]
            rows[1].append(given)
            mask, states[0] = first.run(None, dict(zip(_names(first), given, strict=True)))
            estimate = np.fft.irfft(np.abs(spectrum) * mask.ravel() * np.exp(1j * np.angle(spectrum)))
            given = [estimate.astype(np.float32).reshape(1, 1, -1), states[1]]
            rows[2].append(given)
            _, states[1] = second.run(None, dict(zip(_names(second), given, strict=True)))
    number = int(model.stem[-1])
    stacked = [np.concatenate(column) for column in zip(*rows[number], strict=True)]
    arrays = dict(zip(_input_names(model), stacked, strict=True))
    calibration = np.arange(len(stacked[0])) % 10 == 0
    return (
        {key: values[calibration][:CALIBRATION_COUNT] for key, values in arrays.items()},
        {key: values[~calibration][:2000] for key, values in arrays.items()},
    )


def _machine(model: Path) -> tuple[Arrays, Arrays]:
    """Five frames of 128 mel bands each, 196 times, of the one recording that is there."""
    frames = np.fromfile(model.parent / "normal_id_01_00000000_hist_librosa.bin", np.float32).reshape(-1, 128)
    windows = np.lib.stride_tricks.sliding_window_view(frames, 5, axis=0).transpose(0, 2, 1)
    return _split({"x": windows.reshape(-1, 640)}, 2)


def _wake_word(model: Path) -> tuple[Arrays, Arrays]:
    with np.load(model.parent / "calibration_samples.npz") as arrays:
        return _split({"x": arrays["specs"].astype(np.float32)}, 2)


def _photographs(_model: Path) -> tuple[Arrays, Arrays]:
    """BGR from 0 to 1 as NCHW, 352 on each side."""
    from PIL import Image

    def pixels(file: Path) -> Any:
        with Image.open(file) as image:
            values = np.asarray(image.convert("RGB").resize((352, 352)), np.float32) / 255
        return values[..., ::-1].transpose(2, 0, 1)

    files = sorted((ASSETS / "data" / "coco_detection128" / "images").glob("*.jpg"))
    return _split({"x": np.stack([pixels(file) for file in files])}, 2)


def _one_second(_model: Path) -> tuple[Arrays, Arrays]:
    """Blocks of 512 samples of four noises."""
    noises = np.concatenate([_waveform(file) for file in sorted((ASSETS / "noises10s").glob("*.wav"))])
    return _split(_some({"x": noises[: len(noises) // 512 * 512].reshape(-1, 512)}), 2)


def _names(session: Any) -> list[str]:
    return [entry.name for entry in session.get_inputs()]


def _input_names(model: Path) -> list[str]:
    """The names of the frame and of the states, in this order."""
    import edgekit

    inputs = edgekit.open_artifact(model).inputs
    return [spec.name for spec in sorted(inputs, key=lambda spec: len(spec.shape))]


def _waveform(file: Path) -> Any:
    with wave.open(str(file)) as stream:
        return np.frombuffer(stream.readframes(stream.getnframes()), np.int16).astype(np.float32) / 32768


CASES = (
    Case("ic", "mlperf-tiny-ic/pretrainedResnet.h5", _cifar),
    Case("kws", "mlperf-tiny-kws/kws_ref_model", _speech),
    Case("vww", "mlperf-tiny-vww/vww_96.h5", _person),
    Case("vww-onnx", "mlperf-tiny-vww-onnx/vww_96_float.onnx", _person_channels_first),
    Case("vww-crops", "mlperf-tiny-vww/vww_96.h5", _person_crops(is_channels_first=False)),
    Case("vww-onnx-crops", "mlperf-tiny-vww-onnx/vww_96_float.onnx", _person_crops(is_channels_first=True)),
    Case("ecg", "mltk-autoencoder-ecg/autoencoder_example.h5", _heartbeats, "auc"),
    Case("lenet", "mnist-models/mobile-lenet-5.keras", _digits((28, 28, 1), 1 / 255)),
    Case("conv-fc", "mnist-models/conv_fc_mnist.tflite", _digits((28, 28, 1), 1 / 255)),
    Case("lstm", "mnist-models/trained_lstm.tflite", _digits((28, 28), 1 / 255)),
    Case("mnist-8", "mnist-models/mnist-8.onnx", _digits((1, 28, 28), 1)),
    Case("dtln-1", "dtln/model_1.tflite", _speech_frames, "snr"),
    Case("dtln-2", "dtln/model_2.tflite", _speech_frames, "snr"),
    Case("dtln-1-onnx", "dtln/model_1.onnx", _speech_frames, "snr"),
    Case("dtln-2-onnx", "dtln/model_2.onnx", _speech_frames, "snr"),
)

# Without labels, or another size of a model above: for tables of conversions, and how near they are to the float model.
UNLABELLED = (
    Case("ic-large", "mlperf-tiny-ic/pretrainedResnet_large_float.tflite", _cifar),
    Case("ad", "mlperf-tiny-ad/ad01.h5", _machine, ""),
    Case("sww", "mlperf-tiny-sww/str_ww_ref_model.h5", _wake_word, ""),
    Case("fastestdet", "fastestdet/FastestDet.onnx", _photographs, ""),
    Case("dtln", "dtln/dtln_saved_model", _one_second, ""),
)
