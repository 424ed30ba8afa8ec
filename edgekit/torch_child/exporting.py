"""Writes a loaded program as .tflite, .onnx or .mlpackage; inputs and outputs keep their names."""

from pathlib import Path
from typing import Any

import torch  # noqa: TID253

from edgekit.core_ml_child import write
from edgekit.torch_child.loading import Loaded


class _Named(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not there to be looked at
    """The program with inputs and outputs by name: litert-torch writes the names into the file's signature."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self._call = loaded.call
        self._inputs, self._outputs = list(loaded.inputs), list(loaded.outputs)

    def train(self, mode: bool = True) -> "_Named":
        """Exported programs do not change their mode, and refuse to be asked."""
        self.training = mode
        return self

    def forward(self, **inputs: Any) -> dict[str, Any]:
        results = torch.utils._pytree.tree_leaves(self._call(*[inputs[name] for name in self._inputs]))
        return dict(zip(self._outputs, results, strict=True))


def export_tflite(loaded: Loaded, batch: int | None, output: Path) -> None:
    """Convert with litert-torch, which fixes every size."""
    import litert_torch

    examples = dict(zip(loaded.inputs, _examples(loaded, batch), strict=True))
    litert_torch.convert(_Named(loaded).eval(), (), examples).export(str(output))


def export_onnx(loaded: Loaded, batch: int | None, output: Path) -> None:
    """Convert with PyTorch's own exporter, weights inside of the file."""
    program = loaded.program
    if batch is not None and _is_free(loaded):
        program = torch.export.export(loaded.call, _examples(loaded, batch))
    torch.onnx.export(
        program,
        (),
        str(output),
        input_names=list(loaded.inputs),
        output_names=list(loaded.outputs),
        external_data=False,
        dynamo=True,
        verbose=False,
    )


def export_core_ml(loaded: Loaded, options: dict[str, str], output: Path) -> None:
    """Convert with coremltools, which takes PyTorch's core operators, for a batch of one."""
    program = loaded.program
    if _is_free(loaded):
        program = torch.export.export(loaded.call, _examples(loaded, 1))
    write(program.run_decompositions({}), output, options, {}, outputs=list(loaded.outputs))


def _is_free(loaded: Loaded) -> bool:
    return any(not isinstance(value.shape[0], int) for value in loaded.inputs.values() if value.ndim)


def _examples(loaded: Loaded, batch: int | None) -> tuple[Any, ...]:
    """A value of each input, with ``batch`` for a first size that is free and 1 for every other."""
    examples = []
    for value in loaded.inputs.values():
        shape = [
            size if isinstance(size, int) else (batch or 1) if axis == 0 else 1
            for axis, size in enumerate(value.shape)
        ]
        is_real = value.dtype.is_floating_point
        examples.append(
            torch.rand(shape, dtype=value.dtype) if is_real else torch.zeros(shape, dtype=value.dtype)
        )
    return tuple(examples)
