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
    "EK101": Code(
        "The model does not exist",
        "There is no file or folder of that name.",
        "Correct the path.",
    ),
    "EK102": Code(
        "The model is empty",
        "The file has no content: a download or a copy was cut off.",
        "Fetch the file again.",
    ),
    "EK103": Code(
        "A git-LFS pointer in place of the model",
        "The file is a short text that stands for a large file which git-lfs has not fetched.",
        "Run git lfs pull in the repository that it comes from.",
    ),
    "EK104": Code(
        "Not a model that edgekit reads",
        "The bytes are those of no format that edgekit knows; the name plays no part.",
        "Give a .keras, .h5, .tflite or .onnx file, or a SavedModel folder.",
    ),
    "EK105": Code(
        "The model is damaged",
        "The file begins like a model, but its content cannot be read to the end.",
        "Compare its size and checksum with the original, and fetch or save it again.",
    ),
    "EK106": Code(
        "A zip file that is no Keras model",
        "A .keras file is a zip file with config.json and metadata.json; this one has other content.",
        "Unpack it, and give edgekit the model inside.",
    ),
    "EK107": Code(
        "Weights without a model",
        "The file holds arrays, but not the layers that they belong to.",
        "Build the model in Keras, call load_weights on the file, then model.save('model.keras').",
    ),
    "EK108": Code(
        "A Lambda layer",
        "A Lambda layer is Python code stored in the model file. edgekit runs no code that comes with a model.",
        "Replace it by a built-in layer, or export the model as a SavedModel: model.export(FOLDER).",
    ),
    "EK109": Code(
        "A custom object",
        "The model uses a class or function that is defined outside Keras, and the file does not contain it.",
        "Use built-in layers, or export the model as a SavedModel where that code is: model.export(FOLDER).",
    ),
    "EK110": Code(
        "A pickle",
        "PyTorch checkpoints, state dicts and pickles run code when they are read, and have no graph. "
        "edgekit never reads them.",
        "Export the model with torch.onnx.export, and give edgekit the .onnx file.",
    ),
    "EK111": Code(
        "A folder that is no SavedModel",
        "A SavedModel is a folder with a file saved_model.pb and a folder variables.",
        "Give the folder in which saved_model.pb lies.",
    ),
    "EK112": Code(
        "No signature to choose",
        "The SavedModel has no signature named serving_default, and not exactly one other.",
        "Save it with a signature named serving_default: model.export(FOLDER) does.",
    ),
    "EK113": Code(
        "A Keras model without an input shape",
        "The model was saved before it was built, so its inputs are not known.",
        "Give the model an Input layer, or call it once on data, and save it again.",
    ),
    "EK114": Code(
        "External data that cannot be used",
        "An .onnx file may keep its weights in other files. One of them is missing, too short, or outside the "
        "model's folder, which edgekit does not read.",
        "Put the data files beside the .onnx file, under the names that it uses.",
    ),
    "EK115": Code(
        "An ONNX version that is not supported",
        "edgekit reads opset 8 and newer, up to what the installed onnxruntime supports.",
        "Export the model again with opset 13 or newer.",
    ),
    "EK116": Code(
        "Sizes that cannot be true",
        "The file claims to hold far more than a model of its size can.",
        "The file is damaged or made to do harm: fetch it again from a place that you trust.",
    ),
    "EK117": Code(
        "Operators that the runtime does not have",
        "The file uses custom or Flex operators, or versions of operators, that the runtime cannot execute.",
        "Convert the model again with built-in operators only.",
    ),
    "EK120": Code(
        "Operators that LiteRT does not have",
        "TensorFlow's converter met operators for which there is no LiteRT operator.",
        "Move these operators out of the model, into the code around it.",
    ),
    "EK121": Code(
        "TensorFlow's converter refuses the model",
        "The converter stopped with an error of its own.",
        "Run with -v for its own words. Another engine or recipe may take the model.",
    ),
    "EK122": Code(
        "The converted file does not run",
        "TensorFlow's converter was content, but the interpreter refuses its file. This is common with int16x8.",
        "Choose another recipe, for example int8 in place of int16x8.",
    ),
    "EK123": Code(
        "TensorFlow crashed",
        "The process in which edgekit runs TensorFlow died. edgekit itself goes on.",
        "Try another engine or recipe; run with -v for TensorFlow's own words.",
    ),
    "EK124": Code(
        "TensorFlow took too long",
        "The process in which edgekit runs TensorFlow did not answer before its deadline, and was ended.",
        "Set EDGEKIT_TENSORFLOW_DEADLINE_S to a longer time in seconds, or use fewer calibration samples.",
    ),
    "EK125": Code(
        "An invalid ONNX file was made",
        "tf2onnx ended without an error, but ONNX Runtime refuses what it wrote. The exact GELU is the usual cause.",
        "Use gelu(x, approximate=True) in the model, or write .tflite.",
    ),
    "EK126": Code(
        "An operator that cannot be quantized so",
        "TensorFlow's converter has no quantized form of an operator in this recipe.",
        "Choose another recipe, for example int8 or dynamic, or another engine.",
    ),
    "EK127": Code(
        "A recurrence too long to be quantized",
        "TensorFlow's converter crashes when it quantizes the loop of a recurrent layer. Up to 64 steps edgekit "
        "writes the loop out; beyond, or where the number of steps is not fixed, the file would grow too large.",
        "Choose the recipe dynamic or float16, or -f onnx, or fix at most 64 steps in the model.",
    ),
    "EK128": Code(
        "A model with a state",
        "The model keeps values from one call to the next. An ONNX graph has none of its own between calls.",
        "Make the state an input and an output of the model, or write .tflite.",
    ),
    "EK130": Code(
        "Seen through a float .tflite file",
        "A Keras model or a SavedModel has layers, not operators. What is shown are the operators of the float "
        ".tflite file that it becomes.",
        "Nothing: this is for your information.",
    ),
    "EK131": Code(
        "Read by tf_keras",
        "The file was written by Keras 2 in a way that Keras 3 does not read, so tf_keras, which is Keras 2, read it.",
        "Nothing. To be rid of it, save the model again with Keras 3.",
    ),
    "EK132": Code(
        "Recurrent layers written out",
        "TensorFlow's converter cannot quantize the loop of a recurrent layer, and inspect cannot look into it, so "
        "the loop was written out step by step. It computes the same, and the file grows with the steps.",
        "For a smaller file choose the recipe dynamic.",
    ),
    "EK133": Code(
        "Operators without a count of MACs",
        "edgekit does not know how many multiply-accumulate operations some operators do, or their shapes are not "
        "known, so the total is a lower bound.",
        "Compare the models by latency: edgekit benchmark.",
    ),
    "EK134": Code(
        "Free sizes besides the batch",
        "The length of a sequence or the size of an image is left open in the file. What is computed from shapes, "
        "such as the number of multiply-accumulates, takes them as one.",
        "Fix the sizes when the model is exported, which also makes it faster.",
    ),
    "EK136": Code(
        "Mixed precision was undone",
        "The model was trained with 16-bit arithmetic on 32-bit weights, for which CPUs and LiteRT have no kernels. "
        "edgekit runs and exports it in 32 bits, which is at least as exact.",
        "Nothing. For small weights choose the recipe float16.",
    ),
    "EK135": Code(
        "TensorFlow ran out of memory",
        "A tensor was larger than the memory that is left.",
        "Use fewer samples, or a machine with more memory.",
    ),
    # 2: data
    "EK230": Code(
        "Too few samples to calibrate",
        "At least two samples are needed: one to calibrate and one to hold back.",
        "Use 100 to 500 samples of what the device will see.",
    ),
    "EK231": Code(
        "Fewer calibration samples than wanted",
        "There were fewer samples than asked for, or fewer than 50, so that rare values may be clipped.",
        "Give more samples of what the device will see.",
    ),
    "EK232": Code(
        "Constant calibration data",
        "Every value of the calibration samples is the same number: no range can be found from them.",
        "Check how the file was made; calibrate on real samples.",
    ),
    "EK233": Code(
        "One calibration sample, repeated",
        "All calibration samples are equal, as when a generator is restarted for each sample.",
        "Check the loop that writes the samples.",
    ),
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
    "EK301": Code(
        "Operators stayed float",
        "The engine has no integer version of these operators, so they compute in float between a DEQUANTIZE and a "
        "QUANTIZE. Accelerators that know integers only cannot run them.",
        "See which with `edgekit inspect MODEL --ops`; replace the layer, try another --engine, or accept it.",
    ),
    "EK302": Code(
        "The quantized file is no smaller",
        "The recipe found little to quantize: few weights, or operators that it does not cover.",
        "Use a recipe that covers the model's operators: int8 or float16 for convolutions.",
    ),
    "EK303": Code(
        "Operators outside the fast kernels",
        "LiteRT runs 16-bit activations and 4-bit convolutions with reference kernels, and ONNX Runtime runs dynamic "
        "convolutions as ConvInteger: all were measured several times slower than float on CPUs.",
        "Measure with `edgekit benchmark`; for speed use int8, for size alone weight_only_wi8_afp32.",
    ),
    "EK304": Code(
        "Outputs are far from the float model's",
        "The signal-to-noise ratio of the outputs is below 10 dB on samples held back from calibration.",
        "Measure the accuracy with --evaluate; calibrate on more or better samples; keep sensitive layers in float.",
    ),
    "EK310": Code(
        "ai-edge-quantizer failed",
        "Google's quantizer does not support an operator or a configuration in this model.",
        "Run with -v for its own words; try another --engine, or --keep-float for the layer it names.",
    ),
    "EK311": Code(
        "Depthwise convolutions got another precision",
        "No fast kernel takes depthwise weights in the recipe's precision; the nearest one that runs fast is used.",
        "Nothing to do; a TOML recipe with a rule for DEPTHWISE_CONV_2D decides otherwise.",
    ),
    "EK312": Code(
        "ONNX Runtime's quantizer failed",
        "ONNX Runtime's tools do not support an operator or a configuration in this model.",
        "Run with -v for their own words; try another recipe, or --keep-float for the layer they name.",
    ),
    "EK320": Code(
        "Compared on random inputs",
        "Without data the quantized outputs can be compared with the float model's on random inputs only.",
        "Add --calibration DATA: recipes that need no calibration use it for the comparison.",
    ),
    "EK321": Code(
        "One engine failed",
        "With --engine auto every engine that applies is tried; one failed and another did the work.",
        "Nothing to do. Run with --engine NAME -v to see why it failed.",
    ),
    "EK322": Code(
        "A rule matches no layer",
        "A --keep-float expression or a rule of the recipe file speaks of layers or operators that the model does not "
        "have, so it changed nothing.",
        "List the names with `edgekit inspect MODEL --ops` and correct the expression.",
    ),
    "EK323": Code(
        "Biases were corrected",
        "Rounding weights shifts the mean of each channel. The biases of the quantized model took that shift back, "
        "which brought its outputs nearer to the float model's on samples held back from calibration.",
        "Nothing to do.",
    ),
    "EK330": Code(
        "The float model gives NaN",
        "The model itself gives NaN or infinity for these samples, before any quantization.",
        "Check the samples and their preprocessing, and the model's training.",
    ),
    "EK332": Code(
        "The model is quantized already",
        "Weights of the given model are integers. Quantizing them again would round what was rounded before.",
        "Give the float model that it was made from.",
    ),
    "EK331": Code(
        "The quantized outputs are noise",
        "The error of the quantized outputs is larger than the outputs themselves. Nothing was written.",
        "Check that the calibration data are preprocessed as in training; use a recipe with more bits.",
    ),
    "EK350": Code(
        "The .tflite file is too large to edit",
        "Files above 2 GiB keep weights outside the flatbuffer, where edgekit does not follow them.",
        "Split the model, or quantize it from its Keras or ONNX source.",
    ),
    "EK351": Code(
        "The .tflite file is corrupt",
        "Its identifier is missing, or its tables lead outside the file: it was cut off or damaged.",
        "Copy or export the model again, and compare its sha256 with the source's.",
    ),
    "EK352": Code(
        "The .tflite file is newer than this edgekit",
        "It uses operator options that the installed schema does not know, and which editing would lose.",
        "Export the model with an older converter, or update edgekit.",
    ),
    "EK353": Code(
        "The order of the operators is fixed",
        "The file's metadata names operators by position, which adding or removing one would break.",
        "Convert the model again without control dependencies.",
    ),
    "EK354": Code(
        "The batch cannot be fixed",
        "The free batch of a .tflite file cannot be bound: other sizes are free too, it has loops or conditions, "
        "or its outputs would change.",
        "Export the model with a fixed batch from its source. With a free one it works on the CPU alone.",
    ),
    "EK360": Code(
        "An input or output kept its type",
        "Only a tensor that the graph computes in integers can be given and taken as int8 or uint8; real "
        "numbers at the border mean that the operators there run in floating point.",
        "Quantize the model statically (recipe int8), or ask for float32 inputs and outputs.",
    ),
    # 4: evaluation
    "EK370": Code(
        "The demo began from the .tflite model",
        "Reading the Keras model needs TensorFlow, which is not installed. The demo used the same network in "
        "float32 as .tflite; all else is the same.",
        'Nothing need be done, or: pip install "edgekit[tensorflow]".',
    ),
    "EK401": Code(
        "Equal highest scores",
        "Several classes share the highest score, so the answer depends on which of them a program takes first. "
        "Softmax outputs of 8 bits have 256 values, and sure answers saturate.",
        "Compare scores before the softmax, or give the model float outputs.",
    ),
    "EK402": Code(
        "NaN among the outputs",
        "The model computed values that are no numbers for finite inputs.",
        "Compare it with its source: the conversion or the quantization broke it.",
    ),
    "EK403": Code(
        "A metric was chosen",
        "No metric was named, so one was chosen from the labels and the shape of the outputs.",
        "Name another one with --metric if it is not the one that you mean.",
    ),
    "EK405": Code(
        "Only the first output is measured",
        "The model has several outputs, and labels describe one of them.",
        "Compare all outputs with a reference: --metric snr --reference MODEL.",
    ),
    "EK406": Code(
        "The lineage's contract is applied",
        "The model's lineage says how raw samples were preprocessed when it was made; the same was done here.",
        "If the samples are preprocessed already: --preprocess none.",
    ),
    "EK407": Code(
        "Samples taken as preprocessed",
        "The model was made with a preprocessing contract. The samples are real numbers, so they are taken as "
        "preprocessed already.",
        "If they are raw, name the contract: --preprocess SPEC.",
    ),
    "EK408": Code(
        "Another contract",
        "The samples have another preprocessing contract than those that the model was made with.",
        "Use the contract of the model's lineage.",
    ),
    "EK409": Code(
        "Raw samples without a contract",
        "Samples are integers or images, and the model takes real numbers. They are given unscaled, 0 to 255, "
        "which many models do not expect.",
        "If accuracy is far too low, name a contract: --preprocess unit-range-rgb.",
    ),
    "EK410": Code(
        "The runtime cannot load the model",
        "The file was readable, but the runtime that would execute it refused it.",
        "Update the runtime, or convert the model again; -v shows the runtime's own words.",
    ),
    "EK411": Code(
        "The runtime failed while running the model",
        "The model loaded, but an operator failed on a sample.",
        "Convert the model again; -v shows the runtime's own words.",
    ),
    "EK412": Code(
        "No common batch axis",
        "The first axes of the model's inputs differ, or an input is a single number.",
        "Export the model so that the first axis of every input is the batch.",
    ),
    "EK413": Code(
        "Outputs without a constant shape",
        "An output's shape changes from sample to sample, so outputs cannot be compared or scored.",
        "Export the model with fixed output shapes.",
    ),
    "EK414": Code(
        "The runtime does not execute this format",
        "litert executes .tflite, onnxruntime .onnx, tensorflow Keras models and SavedModels.",
        "Leave --runtime out, or use one that the message lists.",
    ),
    "EK415": Code(
        "The reference's outputs are others",
        "The outputs of the model and of the reference cannot be matched by name, or differ in shape.",
        "Compare models with the same outputs.",
    ),
    "EK416": Code(
        "The runtime crashed",
        "The process that executed the model died. edgekit keeps runtimes in processes of their own.",
        "The model file may be damaged. -v shows what the runtime printed last.",
    ),
    "EK417": Code(
        "No answer",
        "The runtime gave no result for ten minutes and was ended.",
        "The model may loop for ever, or be far too large for this machine.",
    ),
    "EK420": Code(
        "The metric does not fit the outputs",
        "The shape of the model's first output, or of the labels, is not one that the metric can score.",
        "Choose another metric.",
    ),
    "EK421": Code(
        "No reference",
        "The metric compares with a reference model, and none was given.",
        "Add --reference MODEL.",
    ),
    "EK422": Code(
        "One class only",
        "All samples have the same label, so normal and anomalous samples cannot be told apart.",
        "Add samples of the other class.",
    ),
    "EK425": Code(
        "Evaluations that are no pair",
        "A paired comparison needs the same metric on the same samples in the same order.",
        "Evaluate both models on the same data.",
    ),
    # 5: benchmarks
    "EK501": Code(
        "The latencies are noisy",
        "The middle half of the latencies spans more than 10% of the median, or one run in twenty "
        "takes more than "
        "1.5 times the median, or the 95% interval of the median is wider than 5% of it.",
        "Stop other work, set the governor to performance where there is one, and measure for longer.",
    ),
    "EK502": Code(
        "The processor was slowed down",
        "The machine reports that it throttled, or the latency stepped up by 8% or more and stayed "
        "there while no "
        "other process was in the way: heat, an undervolted supply, or the end of a frequency boost.",
        "Let the machine cool, improve its cooling or supply, or fix its frequency; then measure again.",
    ),
    "EK503": Code(
        "The latency drifted",
        "The level of the latency moved by 5% or more between the beginning and the end, more than "
        "chance explains. "
        "A median over such a series depends on when it was taken.",
        "Stop other work and measure for longer. The ratio of models measured in one call holds "
        "nevertheless.",
    ),
    "EK504": Code(
        "Too few runs to judge the noise",
        "Fewer than ten timed runs tell nothing about their spread.",
        "Raise --runs or --max-seconds.",
    ),
    "EK505": Code(
        "Other processes were busy",
        "Before the first run, other processes already used a fifth of a core or more.",
        "Stop them and measure again.",
    ),
    "EK506": Code(
        "Some conditions cannot be read",
        "Virtual machines and containers often hide temperature, governor, frequency and throttling. "
        "They are null "
        "in the document; a slowed processor then shows only in the latencies.",
        "Nothing need be done. Measure on the bare machine to see them.",
    ),
    "EK507": Code(
        "Warm-up did not become steady",
        "The medians of the last three windows of at least 20 ms did not agree within 3% before the time for "
        "warm-up was over, or fewer warm-up runs than asked for fitted in it.",
        "Stop other work on the machine, or set the number of warm-up runs with --warmup.",
    ),
    "EK508": Code(
        "Fewer runs than asked for",
        "The time limit ended the measurement before all the runs were done. What was measured is valid.",
        "Raise --max-seconds, or lower --runs.",
    ),
    "EK509": Code(
        "Free dimensions were set to 1",
        "The model leaves a dimension other than the batch open. Random inputs use 1 there, which is "
        "hardly the size that the model meets in use.",
        "Give samples of the real size with --data.",
    ),
    "EK510": Code(
        "Placement is unknown",
        "The runtime does not tell, without slowing the runs down, which operators run in which kernels.",
        "Nothing need be done: the latency is that of the whole model.",
    ),
    "EK511": Code(
        "XNNPACK took no operator",
        "XNNPACK was on, but none of the operators or their types suit it, so all run in slower "
        "built-in kernels.",
        "Quantize with another recipe: 16-bit activations and some dynamic shapes are the usual causes.",
    ),
    "EK512": Code(
        "Some operators run outside XNNPACK",
        "XNNPACK took a part of the graph; the operators named run in LiteRT's built-in kernels.",
        "Nothing need be done if they are cheap; else see edgekit inspect --ops.",
    ),
    "EK513": Code(
        "Peak memory is less exact",
        "The kernel does not let a process reset its high-water mark, so peak memory is an estimate "
        "or unknown.",
        "On Linux, /proc/self/clear_refs must be writable.",
    ),
    "EK520": Code(
        "This format cannot be benchmarked",
        "Keras files and SavedModels are what one trains with; devices run .tflite and .onnx files.",
        "Convert the model first: edgekit quantize MODEL -r float16 -o model.tflite",
    ),
    "EK521": Code(
        "The runtime does not fit the model",
        "litert and tflite_runtime open .tflite files, onnxruntime opens .onnx files; XNNPACK belongs"
        " to the former.",
        "Leave out --runtime, or name one that opens the file.",
    ),
    "EK522": Code(
        "A benchmark option is out of range",
        "Runs and threads are at least 1, warm-up runs at least 0, and the time limit is above 0.",
        "Correct the value.",
    ),
    "EK530": Code(
        "The runtime crashed on the model",
        "The measuring process was ended by a signal while it loaded or ran the model. edgekit itself"
        " is unharmed.",
        "The file may be corrupt or use what this runtime version cannot do: try another --runtime or"
        " --no-xnnpack.",
    ),
    "EK531": Code(
        "The runtime refuses the model",
        "The runtime opened the file and rejected it, or failed when running it.",
        "Check the file with edgekit inspect; the message is the runtime's own.",
    ),
    "EK532": Code(
        "The runtime did not answer in time",
        "Loading or a run took longer than the deadline, and the measuring process was ended.",
        "The model may be too large for this machine, or the file is corrupt.",
    ),
    "EK533": Code(
        "A runtime is missing or does not work",
        "The package of the runtime is not installed, or cannot be imported: tflite_runtime needs "
        "numpy below 2.",
        "Install it with the line in the hint.",
    ),
    "EK534": Code(
        "The samples do not fit the model",
        "The runtime's own description of its inputs disagrees with the names or shapes of the samples.",
        "Compare the data with edgekit inspect.",
    ),
    "EK535": Code(
        "The measuring process broke off",
        "Its last line, which carries a number known only to this run, did not come. Without it no "
        "result is used: "
        "an exit status of 0 or a closed stream does not tell that the work was finished.",
        "Run the command again, with -v to see what the process printed.",
    ),
    "EK540": Code(
        "The measurement was written by a newer edgekit",
        "The file's schema version is higher than any that this edgekit knows.",
        "Update edgekit.",
    ),
    "EK541": Code(
        "The file is no measurement",
        "It is not a JSON document that edgekit benchmark --save wrote, or it was cut or edited.",
        "Measure again with --save.",
    ),
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
    "EK606": Code(
        "Standard output cannot be written",
        "The results could not be printed, for example because the disk that they are sent to is full.",
        "Send them to another place.",
    ),
    "EK607": Code(
        "The output is no regular file",
        "The name belongs to a device, a socket or a pipe. Writing there would replace it for everyone.",
        "Give the name of a file.",
    ),
    "EK609": Code(
        "A package is missing",
        "A Python package that this command needs is not installed, or only in part.",
        "Run edgekit doctor: it names what is missing and the pip line for it.",
    ),
    "EK616": Code(
        "A runtime is not installed",
        "The package that executes this model is missing, or does not work with the installed numpy.",
        "Install it with the line that the message gives.",
    ),
    "EK610": Code(
        "A package is not installed",
        "The command needs TensorFlow, Keras, tf_keras or tf2onnx, which the plain installation does not bring.",
        'Run pip install "edgekit[tensorflow]".',
    ),
    "EK620": Code(
        "A package does not work",
        "A package is missing, has another version than edgekit needs, or cannot be imported.",
        "Run the pip line of the hint, best in a fresh virtual environment.",
    ),
    "EK621": Code(
        "Little free disk",
        "Models are converted in the folder for temporary files, and less than 1 GiB is free there.",
        "Free some space, or set TMPDIR to a folder on another disk.",
    ),
    "EK622": Code(
        "edgekit is not installed",
        "Python found edgekit's sources in a folder, but no installed package, so its requirements are unknown.",
        "Install it into a virtual environment: pip install edgekit",
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
    "EK903": Code(
        "Not a regular expression",
        "Layers are chosen by regular expressions as Python's re module knows them.",
        "Escape special characters with a backslash.",
    ),
    "EK904": Code(
        "The recipe file is wrong",
        "A recipe file is TOML with schema = 1, base = NAME and [[rules]] with layers, operators and precision.",
        "Compare it with the example in the README.",
    ),
    "EK905": Code(
        "No engine can do that",
        "None of the engines makes this output format out of this model by this recipe.",
        "The message says why for each; choose another recipe, output format or engine.",
    ),
    "EK906": Code(
        "Unknown output format",
        "The output's name does not end with .tflite or .onnx.",
        "Change the name, or add --format.",
    ),
    "EK907": Code(
        "Integer inputs and outputs do not fit",
        "Only .tflite files with static ranges have quantized inputs and outputs.",
        "Leave --io at float32, or use a static recipe and a .tflite output.",
    ),
    "EK908": Code(
        "Calibration data are missing",
        "Static recipes take the ranges of activations from samples.",
        "Add --calibration DATA, or use a dynamic recipe.",
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
