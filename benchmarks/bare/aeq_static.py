"""What a user would write with ai-edge-quantizer alone: MODEL DATA COUNT OUTPUT."""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # noqa: TID253 - this script stands for a user's
from ai_edge_quantizer import quantizer, recipe  # noqa: TID253

model, data, count, output = sys.argv[1:]
samples = np.load(data)["x"][: int(count)].astype(np.float32)
signature, names = next(iter(Interpreter(model).get_signature_list().items()))
engine = quantizer.Quantizer(model, recipe.static_wi8_ai8())
ranges = engine.calibrate({signature: [{names["inputs"][0]: sample[None]} for sample in samples]})
engine.quantize(ranges).save(*output.rsplit("/", 1), overwrite=True)
