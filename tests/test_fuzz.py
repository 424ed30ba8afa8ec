"""Damaged model files: edgekit never crashes or hangs on one, it refuses it in a sentence or reads it.

Each format's files run in one process of its own, which prints a line per file: so a crash ends that process and is
seen, with the file's number.
"""

import subprocess
import sys
import textwrap
from collections import Counter

import pytest

# TensorFlow takes a second for each file that it is asked about.
_FILES = {"tflite_cnn": 200, "tflite_cnn_int8": 200, "onnx_cnn": 200, "keras_cnn": 70, "h5_cnn": 70}
_LIMIT_S = 1500

_SCRIPT = """
    import io, pathlib, random, sys, zipfile
    import edgekit
    from edgekit.errors import EdgekitError

    source, folder, count = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 7)
    content = source.read_bytes()
    path = folder / ("damaged" + source.suffix)

    def damage(content):
        if chance.random() < 0.25:
            return content[: chance.randrange(len(content))]
        damaged = bytearray(content)
        for _flip in range(chance.choice((1, 4, 16, 64))):
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(damaged)

    def damage_inside(content):
        # The checksums of a zip file would find every flip: one member is damaged, and packed anew.
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
            victim = chance.choice(old.namelist())
            for name in old.namelist():
                new.writestr(name, damage(old.read(name)) if name == victim else old.read(name))
        return packed.getvalue()

    for number in range(count):
        if source.suffix == ".keras" and number % 2:
            damaged = damage_inside(content)
        else:
            damaged = damage(content)
        path.write_bytes(damaged)
        print(number, end=" ", flush=True)
        try:
            edgekit.inspect(path).describe(with_ops=True, with_tensors=True)
            print("read", flush=True)
        except EdgekitError as error:
            assert error.exit_code == 7, error.message
            assert "\\n" not in error.message, error.message
            print(error.code, flush=True)
"""


def outcomes(source, folder, files):
    """How often each code came, and how often a damaged file was read."""
    command = [sys.executable, "-c", textwrap.dedent(_SCRIPT), str(source), str(folder), str(files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    lines = done.stdout.splitlines()
    last = lines[-1] if lines else ""
    assert done.returncode == 0, f"ended with {done.returncode} after {last!r}: {done.stderr[-2000:]}"
    assert len(lines) == files
    return Counter(line.split()[1] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "files"), _FILES.items())
def test_damaged_files_are_refused_or_read(models, tmp_path, name, files):
    counts = outcomes(getattr(models, name), tmp_path, files)
    # A quarter of the files is cut off, and some of the rest is damaged where it shows.
    assert files - counts["read"] > files / 5
