"""Intel's OpenVINO: its readers know nearly every operator, its CPU runs them all, and its NPU tells on the device."""

from collections.abc import Sequence

from edgekit.accelerators import Place, Verdict
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://docs.openvino.ai/2026/documentation/compatibility-and-support/supported-operations.html"
DATE = "2026-11-29"

# What OpenVINO 2026.4.1 refused of ONNX's own examples of operators, and of files of one TFLite operator each.
_NOT_OF_ONNX = """
    Adagrad Adam ArrayFeatureExtractor Bernoulli Binarizer BitCast CausalConvWithState CumProd Det FlexAttention
    ImageDecoder LabelEncoder LinearAttention MaxUnpool MelWeightMatrix Momentum Optional OptionalGetElement
    OptionalHasElement RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
    SequenceLength SequenceMap SplitToSequence ConcatFromSequence STFT StringConcat StringNormalizer StringSplit
    SwiGLU TensorScatter TfIdfVectorizer TreeEnsemble
"""
_NOT_OF_TFLITE = """
    ATAN2 CALL_ONCE IF LOCAL_RESPONSE_NORMALIZATION RELU_N1_TO_1 UNIDIRECTIONAL_SEQUENCE_LSTM
    UNIDIRECTIONAL_SEQUENCE_RNN BIDIRECTIONAL_SEQUENCE_LSTM VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE
"""
REFUSED = frozenset({*_NOT_OF_ONNX.split(), *_NOT_OF_TFLITE.split()})
_DOMAINS = frozenset({"", "com.microsoft", "org.openvinotoolkit"})


def judge(operators: Sequence[Operator], target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    is_npu = target.compiler.get("device") == "NPU"
    return [_place(operator, is_npu=is_npu) for operator in operators]


def _place(operator: Operator, *, is_npu: bool) -> Verdict:
    if operator.kind in REFUSED:
        return Verdict(Place.UNSUPPORTED, "OpenVINO has no such operator", "Replace it in the source model.")
    if operator.domain not in _DOMAINS:
        reason = f"OpenVINO knows nothing of the domain {operator.domain}"
        return Verdict(Place.UNSUPPORTED, reason, "Export with standard operators.")
    if is_npu:
        reason = "only the driver of the NPU tells what it takes"
        return Verdict(Place.UNKNOWN, reason, "Compile it on the device: edgekit compile.")
    return Verdict(Place.ACCELERATED)
