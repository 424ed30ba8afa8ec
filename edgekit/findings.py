"""What edgekit noticed: findings, and the catalogue of their codes.

Codes are never used twice. Their hundreds say what they are about: 1 models, 2 data, 3 quantization,
4 evaluation, 5 benchmarks, 6 files and environment, 9 the command line and edgekit itself.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from edgekit.catalog import unknown


class Level(StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """Something that the user should know: one sentence, and what to do about it."""

    code: str
    message: str
    hint: str = ""
    level: Level = Level.WARNING

    def __post_init__(self) -> None:
        if self.code not in CATALOG:
            raise ValueError(f"{self.code} is not in the catalogue of findings.py")

    def describe(self) -> dict[str, Any]:
        """The finding as it stands in JSON documents."""
        return asdict(self)


@dataclass(frozen=True)
class Code:
    """An entry of the catalogue, as ``edgekit explain`` prints it."""

    title: str
    meaning: str
    advice: str


CATALOG: dict[str, Code] = {
    # 1: models
    # 2: data
    "EK201": Code(
        "No data there",
        "The file, folder or spec that was named as data does not exist.",
        "Check the path. Data are a .npz or .npy file, a folder of images, a TOML spec or FILE.py:function.",
    ),
    "EK202": Code(
        "No samples",
        "The file, folder or function exists but gives no samples.",
        "Save samples on the first axis of x: np.savez(path, x=..., y=...).",
    ),
    "EK203": Code(
        "Truncated or corrupt data",
        "The file ends early, its checksum is wrong, or it is of another kind than .npz and .npy.",
        "Copy the file once more, or save it with np.savez.",
    ),
    "EK204": Code(
        "Pickled objects",
        "The file holds Python objects. Opening them can run any code, so edgekit does not.",
        "Save plain numbers: np.savez(path, x=np.stack(samples), y=np.array(labels)).",
    ),
    "EK205": Code(
        "Different numbers of samples",
        "The arrays of one file, or samples and labels, are of different lengths.",
        "Samples lie on the first axis of every array, labels too.",
    ),
    "EK206": Code(
        "Samples of the wrong shape",
        "The samples' shape is not the one that the model takes. Nothing is reshaped unasked.",
        "Follow the hint, or give a preprocessing contract with layout or resize.",
    ),
    "EK207": Code(
        "NaN or infinite values",
        "A sample holds values that are no numbers. One such sample spoils calibration ranges and averages.",
        "Remove or repair the sample that the message names.",
    ),
    "EK208": Code(
        "Labels out of range",
        "A label is negative, or is no class of the model or of the contract.",
        "Labels count from 0 in the order of the model's outputs.",
    ),
    "EK209": Code(
        "An input without data",
        "The model has an input for which the data hold no array.",
        "Save one array per input, under the input's name; a model with one input takes x.",
    ),
    "EK210": Code(
        "Too few samples",
        "More samples were asked for than there are.",
        "Ask for fewer, or give more data.",
    ),
    "EK211": Code(
        "No labels",
        "The metric compares predictions with labels, and the data have none.",
        "Save the labels as y, or compare with a reference model: --reference MODEL --metric agreement.",
    ),
    "EK212": Code(
        "Values of the wrong type",
        "The data hold text, complex numbers or records, or numbers that the model's type cannot hold.",
        "Save numbers of the model's type.",
    ),
    "EK213": Code(
        "The data function failed",
        "The user's own function could not be found or raised an exception.",
        "Correct the function; -v shows its traceback.",
    ),
    "EK214": Code(
        "An unreadable image",
        "A file in the folder is no image, is truncated, or is unreasonably large.",
        "Remove or replace the file.",
    ),
    "EK215": Code(
        "The contract does not fit the data",
        "A step of the preprocessing contract needs axes or channels that the samples do not have.",
        "Correct the contract, or use another one of calibration/.",
    ),
    "EK216": Code(
        "An unreadable spec file",
        "The file is no TOML, or does not say schema = 1.",
        "Compare it with the files in calibration/.",
    ),
    "EK217": Code(
        "An unknown key in a spec file",
        "Unknown keys are refused, since a misspelt one would change the result in silence.",
        "Use the nearest key that the message names.",
    ),
    "EK218": Code(
        "A value in a spec file does not fit",
        "A value has the wrong type or is not one of the known choices.",
        "Use one of the values that the message lists.",
    ),
    "EK219": Code(
        "Column order",
        "The array is stored column by column (Fortran order): samples do not lie one after the other.",
        "Save np.ascontiguousarray(x).",
    ),
    "EK220": Code(
        "Two contracts",
        "The data spec holds a preprocessing contract, and --preprocess names another one.",
        "Give one of them.",
    ),
    "EK221": Code(
        "A spec without samples",
        "The spec says how samples are preprocessed but not where they are.",
        "Give data beside it: --data DATA --preprocess SPEC.",
    ),
    # 3: quantization
    "EK350": Code(
        "The .tflite file is too large to edit",
        "Files above 2 GiB keep weights outside the flatbuffer, where edgekit does not follow them.",
        "Split the model, or quantize it from its Keras or ONNX source.",
    ),
    "EK351": Code(
        "The .tflite file is corrupt",
        "Its identifier is missing, or its tables lead outside the file: it was cut off or damaged on the way.",
        "Copy or export the model again, and compare its sha256 with the source's.",
    ),
    "EK352": Code(
        "The .tflite file is newer than this edgekit",
        "It uses operator options that the installed schema does not know, and which editing would lose.",
        "Export the model with an older converter, or update edgekit.",
    ),
    # 4: evaluation
    # 5: benchmarks
    # 6: files and environment
    "EK601": Code(
        "The output is a folder",
        "A command that writes one file was given the name of an existing folder.",
        "Give a file name, for example folder/model.tflite.",
    ),
    "EK602": Code(
        "The output exists already",
        "edgekit never replaces a file unless told to.",
        "Choose another name, or add --overwrite.",
    ),
    "EK603": Code(
        "The output's folder does not exist",
        "Folders are not created on the way, so that a typing error makes no new ones.",
        "Create the folder with mkdir -p, or correct the path.",
    ),
    "EK604": Code(
        "The disk is full",
        "There was no space left for the output. What was there before is untouched, and nothing half-written is left.",
        "Free some space, or write to another disk.",
    ),
    "EK605": Code(
        "The output cannot be written",
        "The folder is read-only, or its permissions forbid it.",
        "Choose a folder that you may write to.",
    ),
    "EK615": Code(
        "Pillow is not installed",
        "Folders of images are decoded and resized by Pillow, which is an extra.",
        'Install it: pip install "edgekit[images]"',
    ),
    # 9: the command line and edgekit itself
    "EK901": Code(
        "Unknown name",
        "A recipe, metric, runtime, target or code of that name does not exist. No default is put in its place.",
        "Use one of the names that the message lists.",
    ),
    "EK902": Code(
        "Wrong usage",
        "An option is missing, unknown, or has a value that does not fit.",
        "Run the command with --help: it ends with examples.",
    ),
    "EK910": Code(
        "Internal error",
        "edgekit met a state that it was not written for. This is a defect in edgekit, not in your model.",
        "Run the command again with -v and report the traceback.",
    ),
    "EK911": Code(
        "Out of memory",
        "The operating system refused a request for memory.",
        "Use fewer samples or a smaller model, or a machine with more memory.",
    ),
    "EK912": Code(
        "Interrupted",
        "Ctrl-C, or a signal, ended the command. Child processes are gone and no output is half-written.",
        "Run the command again.",
    ),
}


def explain(code: str) -> Code:
    """The catalogue's entry for a code, in any case: ``explain("ek601")``.

    Raises:
        UsageError: The code is not in the catalogue.
    """
    entry = CATALOG.get(code.upper())
    if entry is None:
        raise unknown("code", code.upper(), sorted(CATALOG))
    return entry


def worst(findings: Iterable[Finding]) -> Level | None:
    """The highest level among findings, None where there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=None)
