"""What a user would write with ONNX Runtime's quantizer alone: MODEL DATA COUNT OUTPUT [per-channel]."""

import sys

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quant_pre_process, quantize_static

model, data, count, output, *granularity = sys.argv[1:]
inputs = [entry.name for entry in onnxruntime.InferenceSession(model).get_inputs()]


class Reader(CalibrationDataReader):
    """Yields the calibration samples one by one."""

    def __init__(self) -> None:
        arrays = np.load(data)
        arrays = {name: arrays[name if len(inputs) > 1 else "x"][: int(count)] for name in inputs}
        self.samples = iter(
            {name: values[index : index + 1].astype(np.float32) for name, values in arrays.items()}
            for index in range(len(next(iter(arrays.values()))))
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample."""
        return next(self.samples, None)


prepared = f"{output}.prepared.onnx"
quant_pre_process(model, prepared, skip_symbolic_shape=True)
if granularity:
    # Scales per channel came with opset 13; with an older one the file that is written does not load.
    loaded = onnx.load(prepared)
    if loaded.opset_import[0].version < 13:
        onnx.save(onnx.version_converter.convert_version(loaded, 13), prepared)
    quantize_static(prepared, output, Reader(), per_channel=True, activation_type=QuantType.QInt8)
else:
    quantize_static(prepared, output, Reader())
