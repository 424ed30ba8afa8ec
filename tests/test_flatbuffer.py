import io
import random
import struct
import threading
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit
from edgekit import flatbuffer
from edgekit.errors import ModelError


def tree_of(value):
    """An object tree as dictionaries and lists, which compare by value."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list):
        return [tree_of(item) for item in value]
    if hasattr(value, "__dict__"):
        return {name: tree_of(item) for name, item in vars(value).items()}
    return value


def everything():
    """A tree that uses what passes must not lose: it need not run."""
    tensor, quantization = schema.TensorT, schema.QuantizationParametersT
    first = schema.SubGraphT(
        name=b"main",
        inputs=[0],
        outputs=[2],
        tensors=[
            tensor(name=b"x", type=0, shape=[1, 4], shapeSignature=[-1, 4], hasRank=True),
            tensor(
                name=b"w",
                type=schema.TensorType.INT8,
                shape=[2, 4],
                buffer=1,
                quantization=quantization(
                    scale=[0.5, 0.25], zeroPoint=[0, 0], min=[-1.0], max=[1.0], quantizedDimension=0
                ),
            ),
            tensor(name=b"y", type=0, shape=[1, 2], isVariable=True),
            tensor(
                name=b"blockwise",
                type=schema.TensorType.INT4,
                shape=[2, 4],
                buffer=1,
                quantization=quantization(
                    detailsType=schema.QuantizationDetails.BlockwiseQuantization,
                    details=schema.BlockwiseQuantizationT(scales=1, zeroPoints=2, blockSize=32),
                ),
                sparsity=schema.SparsityParametersT(
                    traversalOrder=[0, 1],
                    dimMetadata=[
                        schema.DimensionMetadataT(format=0, denseSize=2),
                        schema.DimensionMetadataT(
                            format=1,
                            arraySegmentsType=schema.SparseIndexVector.Uint8Vector,
                            arraySegments=schema.Uint8VectorT(values=[0, 1, 2]),
                            arrayIndicesType=schema.SparseIndexVector.Uint16Vector,
                            arrayIndices=schema.Uint16VectorT(values=[1, 3]),
                        ),
                    ],
                ),
            ),
        ],
        operators=[
            schema.OperatorT(
                opcodeIndex=0,
                inputs=[0, 1, -1],
                outputs=[2],
                builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
                builtinOptions=schema.FullyConnectedOptionsT(keepNumDims=True, fusedActivationFunction=1),
                intermediates=[],
                mutatingVariableInputs=[True, False],
            ),
            schema.OperatorT(opcodeIndex=1, inputs=[2], outputs=[2], customOptions=[1, 2, 250]),
        ],
    )
    second = schema.SubGraphT(name=b"body", inputs=[0], outputs=[0], tensors=[tensor(name=b"z", shape=[])])
    data = np.arange(8, dtype=np.uint8)
    return schema.ModelT(
        version=3,
        description=b"made by hand",
        operatorCodes=[
            schema.OperatorCodeT(deprecatedBuiltinCode=9, builtinCode=9, version=4),
            schema.OperatorCodeT(deprecatedBuiltinCode=32, builtinCode=32, customCode=b"Mine"),
        ],
        subgraphs=[first, second],
        buffers=[schema.BufferT(), schema.BufferT(data=data), schema.BufferT(data=np.array([7], np.uint8))],
        metadata=[schema.MetadataT(name=b"labels", buffer=2)],
        metadataBuffer=[2],
        signatureDefs=[
            schema.SignatureDefT(
                signatureKey=b"serve",
                subgraphIndex=0,
                inputs=[schema.TensorMapT(name=b"in", tensorIndex=0)],
                outputs=[schema.TensorMapT(name=b"out", tensorIndex=2)],
            )
        ],
    )


def test_nothing_is_lost():
    before = everything()
    assert tree_of(flatbuffer.read(flatbuffer.write(before))) == tree_of(before)


def test_writing_again_gives_the_same_bytes():
    content = flatbuffer.write(everything())
    assert flatbuffer.write(flatbuffer.read(content)) == content


def numbers_in(content):
    """What both fields of each operator code hold, in the bytes themselves."""
    packed = schema.Model.GetRootAs(content, 0)
    codes = [packed.OperatorCodes(index) for index in range(packed.OperatorCodesLength())]
    return [(code.DeprecatedBuiltinCode(), code.BuiltinCode()) for code in codes]


@pytest.mark.parametrize(
    ("held", "both"), [((0, 6), (6, 6)), ((9, 0), (9, 9)), ((0, 150), (127, 150)), ((0, 0), (0, 0))]
)
def test_an_operator_has_its_number_in_both_fields(held, both):
    """Readers of the older one take what ai-edge-quantizer leaves there, 0, for ADD."""
    model = everything()
    code = model.operatorCodes[1]
    code.deprecatedBuiltinCode, code.builtinCode = held
    before = flatbuffer.write(model)
    assert numbers_in(before)[1] == held
    assert numbers_in(flatbuffer.rewrite(before, lambda _tree: None))[1] == both


@pytest.mark.parametrize("recipe", ["float16", "dynamic", "int8"])
def test_so_has_every_operator_of_a_quantized_file(models, tmp_path, recipe):
    path = tmp_path / "model.tflite"
    data = {"calibration": str(models.train_data)} if recipe == "int8" else {}
    edgekit.quantize(models.tflite_cnn, path, recipe=recipe, **data)
    found = numbers_in(path.read_bytes())
    assert found
    assert all(old == new for old, new in found)


shapes = st.lists(st.integers(-1, 300), max_size=5)
quantizations = st.builds(
    lambda scales, zero_points, axis: schema.QuantizationParametersT(
        scale=np.array(scales, np.float32), zeroPoint=np.array(zero_points, np.int64), quantizedDimension=axis
    ),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.integers(0, 3),
)
tensors = st.lists(
    st.builds(
        schema.TensorT,
        shape=st.none() | shapes,
        type=st.integers(0, 17),
        buffer=st.integers(0, 3),
        name=st.none() | st.binary(max_size=20),
        quantization=st.none() | quantizations,
        isVariable=st.booleans(),
        hasRank=st.booleans(),
        shapeSignature=st.none() | shapes,
    ),
    max_size=12,
)
contents = st.lists(st.binary(min_size=1, max_size=100), min_size=4, max_size=4)


@settings(max_examples=150, deadline=None)
@given(tensors=tensors, contents=contents)
def test_any_tensors_survive_and_lie_aligned(tensors, contents):
    buffers = [schema.BufferT(data=np.frombuffer(content, np.uint8)) for content in contents]
    before = schema.ModelT(subgraphs=[schema.SubGraphT(tensors=tensors)], buffers=buffers)
    content = flatbuffer.write(before)
    after = flatbuffer.read(content)
    assert tree_of(after) == tree_of(before)
    start = np.frombuffer(content, np.uint8).ctypes.data

    def address(array):
        return array.ctypes.data - start

    assert all(address(buffer.data) % 16 == 0 for buffer in after.buffers)
    for tensor in after.subgraphs[0].tensors:
        if tensor.quantization is not None:
            for vector, size in ((tensor.quantization.scale, 4), (tensor.quantization.zeroPoint, 8)):
                assert (
                    vector is None
                    or isinstance(vector, int)
                    or not len(vector)
                    or address(vector) % size == 0
                )


def test_equal_parts_are_written_once():
    scales = np.arange(1000, dtype=np.float32) + 1

    def size(copies):
        table = [
            schema.TensorT(
                shape=[1000],
                quantization=schema.QuantizationParametersT(
                    scale=scales.copy(), zeroPoint=np.zeros(1000, np.int64)
                ),
                name=b"one long name" * 10,
            )
            for _ in range(copies)
        ]
        model = schema.ModelT(subgraphs=[schema.SubGraphT(tensors=table)], buffers=[schema.BufferT()])
        return len(flatbuffer.write(model))

    assert size(1) > 12_000
    assert size(11) - size(1) == 10 * 4  # one more offset in the list of tensors


def test_an_unchanged_schema_module_packs_in_threads():
    originals = {name: vars(getattr(schema, name))["Pack"] for name in ("TensorT", "BufferT", "ModelT")}
    expected = flatbuffer.write(everything())
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(flatbuffer.write(everything()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8
    assert all(vars(getattr(schema, name))["Pack"] is pack for name, pack in originals.items())


def test_files_appended_by_tflite_metadata_stay():
    stream = io.BytesIO(flatbuffer.write(everything()))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")

    content = flatbuffer.rewrite(stream.getvalue(), lambda tree: setattr(tree, "description", b"x" * 500))

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
        assert archive.testzip() is None
    assert flatbuffer.read(content).description == b"x" * 500


def test_a_zip_bomb_behind_the_model_is_refused():
    stream = io.BytesIO(flatbuffer.write(everything()))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as member:
        for _ in range(257):
            member.write(bytes(2**20))
    with pytest.raises(ModelError, match="larger than 256 MiB"):
        flatbuffer.rewrite(stream.getvalue(), lambda _tree: None)


def code_of(content):
    with pytest.raises(ModelError) as caught:
        flatbuffer.read(content)
    return caught.value.code


def test_what_is_no_tflite_file_is_refused():
    assert code_of(b"") == "EK351"
    assert code_of(b"PK\x03\x04 not a model") == "EK351"
    assert code_of(b"\x10\x00\x00\x00TFL3") == "EK351"


def file_with_weights_behind_it():
    """Three buffers of 16 bytes at offset 4096, which the generated code would drop in silence."""
    tree = everything()

    class Outside:
        data = None

        def Pack(self, recorder):  # noqa: N802 - called by the generated code
            recorder.StartObject(3)
            recorder.PrependUint64Slot(1, 4096, 0)
            recorder.PrependUint64Slot(2, 16, 0)
            return recorder.EndObject()

    tree.buffers = [Outside() for _ in range(3)]
    recorder = flatbuffer.BlockRecorder()
    return recorder.finish(tree.Pack(recorder), b"TFL3").ljust(4096, b"\0") + bytes(range(16))


def test_weights_behind_the_flatbuffer_become_part_of_it():
    content = file_with_weights_behind_it()
    for tree in (flatbuffer.read(content), flatbuffer.read(flatbuffer.write(flatbuffer.read(content)))):
        assert [bytes(buffer.data) for buffer in tree.buffers] == [bytes(range(16))] * 3
        assert {(buffer.offset, buffer.size) for buffer in tree.buffers} == {(0, 0)}


def test_weights_beyond_the_end_are_refused():
    assert code_of(file_with_weights_behind_it()[:-1]) == "EK351"


def test_operator_options_of_the_future_are_refused():
    tree = everything()
    tree.subgraphs[0].operators[1].builtinOptionsType = 127
    assert code_of(flatbuffer.write(tree)) == "EK352"


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_an_index_that_leads_nowhere_is_refused(field):
    tree = everything()
    setattr(tree.subgraphs[0].operators[0], field, [99])
    assert code_of(flatbuffer.write(tree)) == "EK351"


def test_a_file_whose_lists_repeat_one_table_is_refused_before_it_unpacks():
    """A few kilobytes could stand for billions of tensors: many subgraphs with the same long list."""
    tensor = schema.TensorT(name=b"t")
    graph = schema.SubGraphT(tensors=[tensor] * 200)
    tree = schema.ModelT(subgraphs=[graph] * 200, buffers=[schema.BufferT()])
    content = flatbuffer.write(tree)
    assert len(content) < 10_000
    assert code_of(content) == "EK351"


def test_damaged_files_are_read_or_refused_and_never_crash():
    random_ = random.Random(3)  # noqa: S311 - damage that can be repeated
    content = flatbuffer.write(everything())
    refused = 0
    for _ in range(400):
        damaged = bytearray(content[: random_.randrange(8, len(content) + 1)])
        for _ in range(random_.choice([1, 4, 20])):
            damaged[random_.randrange(len(damaged))] ^= 1 << random_.randrange(8)
        try:
            flatbuffer.read(bytes(damaged))
        except ModelError:
            refused += 1
    assert 0 < refused <= 400


def test_the_root_offset_comes_first():
    content = flatbuffer.write(everything())
    (root,) = struct.unpack_from("<I", content)
    assert content[4:8] == b"TFL3"
    assert 8 <= root < len(content)
