"""TensorFlow Lite Micro: the model as an array in C, with the operators and the memory that its interpreter needs.

Where the toolchain tflm is installed the model is run in that interpreter first, by its reference kernels on this
machine: a file with an unknown operator is refused, the memory is measured, and outputs are held against LiteRT's.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.accelerators import Place, tflm
from edgekit.arena import activation_bytes
from edgekit.artifact import Artifact, Format
from edgekit.compilation import Compilation, CompiledOperator
from edgekit.compilers import _trial
from edgekit.compilers._run import run
from edgekit.errors import TargetError, UsageError
from edgekit.findings import Finding, Level
from edgekit.operators import Operator, operators
from edgekit.target import Target
from edgekit.tensor import Array
from edgekit.toolchain import Toolchain

SUFFIXES = (".c", ".cc", ".cpp")
_CHILD = Path(__file__).with_name("_tflm_child.py")
_ARENA_BYTES = 256 << 20
_ALIGNMENT = 16
_PER_LINE = 12
_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
# Kernels of both round on their own: one step of an integer, and a part in ten thousand of a real number.
_STEPS = 1
_SLACK = 1.001
_PART = 1e-4
_NEAR_DB = 60.0
# What the interpreter keeps beside the tensors' values, on a machine of 64 bits: sizeof TfLiteEvalTensor, of
# NodeAndRegistration with its kernel's notes, and of a multiplier and a shift for each channel.
_TENSOR_BYTES, _OPERATOR_BYTES, _CHANNEL_BYTES = 24, 128, 8

# The method of MicroMutableOpResolver, where it is not the operator's name in capitals and small letters.
_METHODS = {
    "ADD_N": "AddAddN",
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "L2_POOL_2D": "AddL2Pool2D",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    "TFLite_Detection_PostProcess": "AddDetectionPostprocess",
    "ethos-u": "AddEthosU",
}


def compile(  # noqa: A001 - every compiler's
    artifact: Artifact, target: Target, folder: Path, output: Path
) -> Compilation:
    """Write the model as C, with a header beside it.

    Raises:
        UsageError: The output is no file of C or C++.
        TargetError: The model is no .tflite file, or has an operator that TensorFlow Lite Micro has not.
        ModelError: Its interpreter crashes on the model.
    """
    name = _name(output)
    if artifact.format is not Format.TFLITE:
        message = f"TensorFlow Lite Micro reads .tflite files, and {artifact.path} is {artifact.format}."
        raise TargetError("EK390", message, f"Make one: edgekit quantize {artifact.path} -o model.tflite")
    found = operators(artifact.path, artifact.format)
    _check(artifact, target, found)
    toolchain = Toolchain.load("tflm")
    findings: tuple[Finding, ...] = ()
    if toolchain.is_installed:
        arena_bytes, findings = tried(artifact, toolchain, folder)
        log = "measured in TensorFlow Lite Micro's interpreter on this machine"
    else:
        arena_bytes, log = _estimated(found), "estimated from the sizes of the tensors"
        message = f"The tensor arena of {arena_bytes:,} bytes is an estimate, and nothing was run."
        findings = (Finding("EK395", message, "Install it: edgekit toolchain install tflm", Level.NOTE),)
    kinds = sorted({operator.kind for operator in found})
    source, header = folder / output.name, folder / f"{output.stem}.h"
    content = artifact.path.read_bytes()
    source.write_text(_source(name, header.name, content), encoding="ascii")
    header.write_text(_header(name, artifact, kinds, (arena_bytes, log)), encoding="ascii")
    return Compilation(
        path=source,
        compiler="tflm",
        version=toolchain.version,
        configuration={},
        operators=tuple(CompiledOperator(one.kind, "tflm", 0, 0, _last(one)) for one in found),
        estimates={
            "tensor_arena_bytes": arena_bytes,
            "tensors_bytes": activation_bytes(found) or 0,
            "model_bytes": len(content),
        },
        log="",
        basis=log,
        beside=(header,),
        findings=findings,
    )


def beside(_target: Target) -> tuple[str, ...]:
    """The suffixes of what is written beside the output."""
    return (".h",)


def _name(output: Path) -> str:
    """What the generated code calls the model: ``"model_int8"`` for ``model.int8.cc``."""
    if output.suffix not in SUFFIXES:
        message = f"{output.name} is no file of C or C++."
        raise UsageError("EK394", message, f"End its name with {', '.join(SUFFIXES)}.")
    name = re.sub(r"\W+", "_", output.stem, flags=re.ASCII)
    return name if name[:1].isalpha() else f"model_{name}"


def _check(artifact: Artifact, target: Target, found: Sequence[Operator]) -> None:
    verdicts = tflm.judge(found, target)
    left = [
        f"{one.kind} ({verdict.reason})"
        for one, verdict in zip(found, verdicts, strict=True)
        if verdict.place is Place.UNSUPPORTED
    ]
    if left:
        message = f"{target.name} does not run {artifact.path}: {', '.join(dict.fromkeys(left))}."
        raise TargetError("EK392", message, f"See edgekit compat {artifact.path} -t {target.name}")


def tried(artifact: Artifact, toolchain: Toolchain, folder: Path) -> tuple[int, tuple[Finding, ...]]:
    """Run the model: the bytes of memory that it took, and how its outputs differ from LiteRT's."""
    inputs, outputs = _trial.border(artifact)
    samples = _trial.random_samples(inputs)
    given = {f"input_{number}": samples[spec.name] for number, spec in enumerate(inputs)}
    np.savez(folder / "samples.npz", **given)  # type: ignore[arg-type]
    model = folder / "model.tflite"
    model.write_bytes(artifact.path.read_bytes())
    words = [str(_CHILD), str(model), str(_ARENA_BYTES), str(len(outputs)), str(folder / "samples.npz")]
    done = run(toolchain, ["python", *words], artifact, folder)
    total = _TOTAL.search(done.stdout + done.stderr)
    if done.returncode or total is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"exit code {done.returncode}"
        ]
        message = f"TensorFlow Lite Micro refuses {artifact.path}: {lines[0].rstrip('.')}."
        raise TargetError(
            "EK392", message, "Replace that layer, or quantize with -r int8.", detail=done.stderr
        )
    with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
        measured = {spec.name: stored[f"output_{number}"] for number, spec in enumerate(outputs)}
    return int(total[1]), tuple(_differences(artifact, samples, measured))


def _differences(
    artifact: Artifact, samples: Mapping[str, Array], measured: Mapping[str, Array]
) -> Iterator[Finding]:
    # Of LiteRT's kernels these round as TensorFlow Lite Micro's do.
    for spec, off in _trial.differences(artifact, samples, measured, "litert_reference"):
        limit = _STEPS * spec.quantization.scales[0] if spec.quantization else _PART
        if off.max_abs > limit * _SLACK and (spec.quantization or off.snr_db < _NEAR_DB):
            text = f"The output {spec.name} differs by up to {off.max_abs:.3g} from LiteRT's"
            hint = "edgekit debug tells operators apart; look at it on real samples."
            yield Finding("EK396", f"{text} on {_trial.SAMPLES} random inputs.", hint)


def _estimated(found: Sequence[Operator]) -> int:
    """The tensors' values, and what the interpreter keeps beside them."""
    tensors = {(o.graph, t.index) for o in found for t in (*o.inputs, *o.outputs)}
    channels = sum(len(weights.scales) for one in found for weights in one.weights)
    kept = _TENSOR_BYTES * len(tensors) + _OPERATOR_BYTES * len(found) + _CHANNEL_BYTES * channels
    return _aligned(activation_bytes(found) or 0) + _aligned(kept)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _method(kind: str) -> str:
    """``AddConv2D`` for ``CONV_2D``."""
    words = [word if word[0].isdigit() else word.capitalize() for word in kind.split("_")]
    return _METHODS.get(kind, "Add" + "".join(words))


def _last(operator: Operator) -> str:
    return operator.names[-1] if operator.names else ""


def _source(name: str, header: str, content: bytes) -> str:
    """The file's bytes, aligned as the interpreter wants them, in C and in C++."""
    lines = [
        "  " + " ".join(f"0x{byte:02x}," for byte in content[start : start + _PER_LINE])
        for start in range(0, len(content), _PER_LINE)
    ]
    body = "\n".join(lines)
    return f"""\
#include "{header}"

#ifdef __cplusplus
alignas({_ALIGNMENT})
#else
_Alignas({_ALIGNMENT})
#endif
const unsigned char {name}_data[{len(content)}] = {{
{body}
}};
"""


def _header(name: str, artifact: Artifact, kinds: Sequence[str], arena: tuple[int, str]) -> str:
    """The sizes, and a function that registers the operators."""
    calls = " &&\n         ".join(f"resolver->{_method(kind)}() == 0" for kind in kinds) or "true"
    guard = name.upper()
    return f"""\
// A model for TensorFlow Lite Micro: {artifact.size_bytes} bytes, sha256
// {artifact.sha256}
// The size of the tensor arena was {arena[1]}.
// Pointers here have 64 bits: a microcontroller needs less, but kernels optimized for it may need room of their own.
#ifndef {guard}_H_
#define {guard}_H_

#define {guard}_SIZE {artifact.size_bytes}
#define {guard}_ARENA_SIZE {arena[0]}
#define {guard}_OPERATOR_COUNT {len(kinds)}

#ifdef __cplusplus
extern "C" {{
#endif
extern const unsigned char {name}_data[{guard}_SIZE];
#ifdef __cplusplus
}}

// Registers what the model needs with a tflite::MicroMutableOpResolver<{guard}_OPERATOR_COUNT>; kTfLiteOk is 0.
template <typename Resolver>
bool {name}_add_operators(Resolver* resolver) {{
  return {calls};
}}
#endif

#endif  // {guard}_H_
"""
