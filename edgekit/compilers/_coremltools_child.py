"""Reads a Core ML package back, by the Python of coremltools' toolchain: ``PACKAGE``.

Nothing is computed: that is for Apple's machines.
"""

import json
import sys
from typing import Any

import coremltools


def main() -> None:
    """Read the package with all of its weights; print what is in it as JSON."""
    model = coremltools.models.MLModel(sys.argv[1], skip_model_load=True)
    # Every stored constant is read, which a file that is cut short does not survive.
    coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=0)
    spec = model.get_spec()
    [function] = spec.mlProgram.functions.values()
    [block] = function.block_specializations.values()
    described = {
        "inputs": _described(spec.description.input),
        "outputs": _described(spec.description.output),
        "operators": [
            {"kind": one.type, "name": one.outputs[0].name if one.outputs else ""}
            for one in block.operations
            if one.type != "const"
        ],
    }
    print(json.dumps(described))


def _described(features: Any) -> list[tuple[str, list[int], str]]:
    """Name, shape and type: ``("image", [1, 3, 32, 32], "float32")``."""
    types = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType.ArrayDataType
    arrays = [(feature.name, feature.type.multiArrayType) for feature in features]
    return [(name, list(array.shape), types.Name(array.dataType).lower()) for name, array in arrays]


if __name__ == "__main__":
    main()
