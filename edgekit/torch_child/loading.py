"""Loads exported programs, and exports the modules that a user's function gives."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this process exists to run PyTorch

from edgekit.torch_child.archive import copy_without_code


class TrainingModeError(Exception):
    """A program was exported as it trains: it drops values at random, or normalizes by the batch."""


class NoModuleError(Exception):
    """A function gave something else than a module and its example inputs."""


@dataclass(frozen=True)
class Loaded:
    """An exported program with the names of its inputs and outputs and a value of each: shapes may hold symbols."""

    program: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]

    @property
    def call(self) -> Any:
        """The program as a function of its inputs in order, which gives whatever the module gave."""
        return self.program.module()


def load(path: Path, scratch: Path) -> Loaded:
    """Read a ``.pt2`` file, by way of a copy in ``scratch``.

    Raises:
        UnsafeError: It holds an object that only unpickling restores.
        TrainingModeError: It was exported in training mode.
    """
    copy = scratch / "program.pt2"
    copy_without_code(path, copy)
    try:
        program = torch.export.load(copy)
    finally:
        copy.unlink()
    _check_mode(program)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    signature = program.graph_signature
    inputs = {name: values[name] for name in signature.user_inputs}
    # What the graph calls its outputs are the operators that made them, which says nothing to a user.
    names = _output_names(program, len(signature.user_outputs))
    outputs = {name: values[node] for name, node in zip(names, signature.user_outputs, strict=True)}
    return Loaded(program, inputs, outputs)


def export(file: Path, function: str, output: Path) -> None:
    """Run ``function`` of a user's file, which gives a module and example inputs, and write a ``.pt2`` file.

    Raises:
        NoModuleError: It gives something else.
    """
    given = getattr(_import(file), function, None)
    if not callable(given):
        raise NoModuleError(f"there is no function {function} in it")
    result = given()
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], torch.nn.Module)):
        raise NoModuleError(f"{function} gave {type(result).__name__}")
    module, example = result
    arguments = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    torch.export.save(torch.export.export(module.eval(), arguments), output)


def _import(file: Path) -> Any:
    # What the user's file imports from beside it is found as if it were run there.
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(f"edgekit_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise NoModuleError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _output_names(program: Any, count: int) -> list[str]:
    """The keys where the module gives a dict, else ``output_0`` and so on."""
    spec = program.call_spec.out_spec
    if spec is not None and spec.type is dict:
        return [str(key) for key in spec.context]
    return [f"output_{index}" for index in range(count)]


def _check_mode(program: Any) -> None:
    for node in program.graph.nodes:
        name = str(node.target)
        random = name.startswith("aten.dropout") and len(node.args) > 2 and node.args[2] is True
        by_batch = name.startswith("aten.batch_norm") and len(node.args) > 5 and node.args[5] is True
        if random or by_batch:
            raise TrainingModeError(name)
