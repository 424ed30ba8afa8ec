"""Models in float16 on a CPU: ONNX Runtime has few kernels for them, and computes in float32 between casts."""

import edgekit
from edgekit.accelerators import Place


def test_what_has_no_kernel_in_float16_runs_widened(models, tmp_path):
    path = tmp_path / "half.onnx"
    edgekit.quantize(models.onnx_cnn, path, recipe="float16")
    found = edgekit.compat(path, target="linux-x86-64")
    assert {one.verdict.place for one in found.placed} == {Place.ACCELERATED}
    reasons = {one.operator.kind: one.verdict.reason for one in found.placed}
    assert reasons["Conv"] == "it is computed in float32, between casts"
    assert reasons["Cast"] == ""
    # It really runs.
    assert edgekit.evaluate(path, models.test_data, workers=1).value > 0.9
