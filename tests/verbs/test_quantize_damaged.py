"""Damaged models on their way through quantization: a sentence, or a file that passed the comparison."""

import subprocess
import sys
import textwrap
from collections import Counter

import pytest

_FILES = 200
_LIMIT_S = 1500

_SCRIPT = """
    import pathlib, random, sys
    import edgekit
    from edgekit.errors import EdgekitError

    source, data, folder, count = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])
    chance, content = random.Random(11), source.read_bytes()
    path, output = folder / ("damaged" + source.suffix), folder / ("out" + source.suffix)
    for number in range(count):
        damaged = bytearray(content)
        if chance.random() < 0.25:
            damaged = damaged[: chance.randrange(len(content))]
        else:
            for _flip in range(chance.choice((1, 4, 16, 64))):
                damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        print(number, end=" ", flush=True)
        recipe = ("int8", "dynamic", "float16")[number % 3]
        try:
            found = edgekit.quantize(
                path, output, recipe=recipe, calibration=data, calibration_samples=20, overwrite=True
            )
            assert found.read_back.snr_db > 0
            print("quantized", flush=True)
        except EdgekitError as error:
            assert error.exit_code == 7, (error.code, error.message)
            assert "\\n" not in error.message, error.message
            print(error.code, flush=True)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["tflite_cnn", "onnx_cnn"])
def test_damaged_files_are_refused_or_quantized(models, tmp_path, name):
    arguments = [str(getattr(models, name)), str(models.train_data), str(tmp_path), str(_FILES)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    lines = done.stdout.splitlines()
    last = lines[-1] if lines else ""
    assert done.returncode == 0, f"ended with {done.returncode} after {last!r}: {done.stderr[-2000:]}"
    counts = Counter(line.split()[1] for line in lines)
    assert counts.total() == _FILES
    assert counts["quantized"] > 0
    assert _FILES - counts["quantized"] > _FILES / 5
