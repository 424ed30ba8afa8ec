"""Prints the model configuration of an HDF5 file as JSON: ``python -m edgekit.tensorflow_child.hdf5 FILE``.

A process of its own: the HDF5 library can crash on damaged files, and TensorFlow is not ready so soon.
"""

import json
import sys


def main(path: str) -> None:
    """Print ``{"config": TEXT}``, null for a file of weights; or ``{"error": ..., "message": ...}``."""
    try:
        import h5py

        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
        text = config.decode() if isinstance(config, bytes) else config
        answer = {"config": text if text is None else str(text)}
    except Exception as error:  # noqa: BLE001 - the parent puts it into words
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
