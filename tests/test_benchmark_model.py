"""Google's benchmark_model: its text, as its builds print it. The program itself is on no machine here."""

import pytest

from edgekit.benchmark_model import find, parse, run
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

PRINTED = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [2]
INFO: Graph: [/data/local/tmp/m.tflite]
INFO: Loaded model /data/local/tmp/m.tflite
INFO: The input model file size (MB): 0.098496
INFO: Initialized session in 12.345ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=130 first=9500 curr=3800 min=3700 max=9500 avg=3850.5 std=510 p5=3720 median=3790 p95=4100

INFO: Running benchmark for at least 50 iterations and at least 3 seconds but terminate if exceeding 150 seconds.
INFO: count=790 first=3810 curr=3805 min=3690 max=4480 avg=3797.42 std=60 p5=3715 median=3785 p95=3905

INFO: Inference timings in us: Init: 12345, First inference: 9500, Warmup (avg): 3850.5, Inference (avg): 3797.42
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
INFO: Memory footprint delta from the start of the tool (MB): init=1.93 overall=2.71
INFO: Overall peak memory footprint (MB) via periodic monitoring: 6.45
"""


def test_the_timed_runs_are_read_and_not_the_warm_up():
    found = parse(PRINTED, program="/data/local/tmp/benchmark_model", program_sha256="ab")
    assert (found.init_ms, found.first_inference_ms, found.mean_ms) == pytest.approx((12.345, 9.5, 3.79742))
    assert (found.min_ms, found.max_ms, found.median_ms, found.runs) == (3.69, 4.48, 3.785, 790)
    assert found.peak_memory_mb == 6.45


def test_old_builds_print_no_median_and_no_peak():
    text = "count=50 first=10 curr=9 min=8 max=12 avg=9.5 std=1\n" + next(
        line for line in PRINTED.splitlines() if "timings" in line
    )
    found = parse(text, program="b", program_sha256=None)
    assert (found.runs, found.min_ms, found.median_ms, found.peak_memory_mb) == (50, 0.008, None, None)


@pytest.mark.parametrize("text", ["", "Segmentation fault", PRINTED.partition("INFO: Inference timings")[0]])
def test_other_text_is_an_error(text):
    with pytest.raises(DeviceError) as caught:
        parse(text, program="b", program_sha256=None)
    assert caught.value.code == "EK865"


def test_it_is_started_on_the_device_with_the_model(tmp_path):
    program = tmp_path / "benchmark model"
    (tmp_path / "printed").write_text(PRINTED)
    program.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\ncat "{tmp_path}/printed" >&2\n')
    program.chmod(0o755)
    with Shell(Device("here", "local")) as shell:
        assert find(shell, str(program)) == str(program)
        assert find(shell, str(tmp_path / "nothing")) is None
        found = run(shell, str(program), "/models/a b.tflite", 2)
    assert found.runs == 790
    assert len(found.program_sha256) == 64
    asked = (tmp_path / "asked").read_text()
    assert "--graph=/models/a b.tflite --num_threads=2" in asked
