"""What a user would write with ai-edge-quantizer alone: MODEL DATA COUNT OUTPUT [ALGORITHM]."""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

model, data, count, output, *algorithm = sys.argv[1:]
signature, names = next(iter(Interpreter(model).get_signature_list().items()))
arrays = np.load(data)
arrays = {name: arrays[name if len(names["inputs"]) > 1 else "x"][: int(count)] for name in names["inputs"]}
samples = [
    {name: values[index : index + 1].astype(np.float32) for name, values in arrays.items()}
    for index in range(len(next(iter(arrays.values()))))
]
rules = recipe.static_wi8_ai8()
for rule in rules:
    rule["algorithm_key"] = next(iter(algorithm), rule["algorithm_key"])
engine = quantizer.Quantizer(model, rules)
result = engine.quantize(engine.calibrate({signature: samples}))
Path(output).write_bytes(result.quantized_model)
