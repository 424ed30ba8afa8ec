"""Compiles an ONNX file with ONNX Runtime's QNN provider, by the Python of its toolchain: ``MODEL OUTPUT OPTIONS``.

OPTIONS are the provider's, as JSON. The provider's library comes with the toolchain, and no device is needed.
"""

import json
import sys

import onnxruntime  # noqa: TID253 - this file is a program of the toolchain's Python
import onnxruntime_qnn

_QUIET = 3


def main() -> None:
    """Write the context model; ONNX Runtime raises where it cannot."""
    model, output, options = sys.argv[1:]
    onnxruntime.set_default_logger_severity(_QUIET)
    onnxruntime.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == "QNN"]
    session = onnxruntime.SessionOptions()
    session.log_severity_level = _QUIET
    for key, value in (
        ("ep.context_enable", "1"),
        ("ep.context_file_path", output),
        # One file, which can be copied without another.
        ("ep.context_embed_mode", "1"),
    ):
        session.add_session_config_entry(key, value)
    backend = {"backend_path": onnxruntime_qnn.get_qnn_htp_path()}
    session.add_provider_for_devices(devices[:1], backend | json.loads(options))
    onnxruntime.InferenceSession(model, session)


if __name__ == "__main__":
    main()
