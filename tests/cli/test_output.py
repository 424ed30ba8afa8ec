"""Results on standard output and nothing else there; everything else on standard error."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_NOISE = ("descriptor one", "descriptor two", "buffered by C", "python out", "python err", "child")


def test_json_is_one_document_whatever_libraries_print(edgekit):
    done = edgekit("awkward", "print_everywhere", "--json")
    assert json.loads(done.stdout) == {
        "schema_version": 1,
        "command": "awkward",
        "edgekit_version": "0.1.0",
        "status": "ok",
        "findings": [],
        "result": {"act": "print_everywhere"},
    }
    assert done.stderr == ""
    assert done.returncode == 0


def test_what_libraries_print_is_hidden(edgekit):
    done = edgekit("awkward", "print_everywhere")
    assert done.stdout == "the result\n"
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("-v",), ("-v", "--json")])
def test_verbose_shows_on_standard_error_what_libraries_print(edgekit, arguments):
    done = edgekit("awkward", "print_everywhere", *arguments)
    for text in _NOISE:
        assert text in done.stderr
        assert text not in done.stdout


def test_json_holds_no_nan_and_numpy_as_plain_numbers(edgekit):
    result = json.loads(edgekit("awkward", "numbers", "--json").stdout)["result"]
    assert result == {
        "nan": None,
        "array": [0, 1, 2],
        "one": 1.5,
        "path": "x",
        "infinite": [None],
        "pair": [1, 2],
    }


@pytest.mark.parametrize("reader", ["head -0", "head -1", "true"])
@pytest.mark.parametrize("arguments", ["awkward long", "--help", "awkward print_everywhere --json"])
def test_a_reader_that_goes_away_is_no_failure(edgekit_env, tmp_path, reader, arguments):
    command = f"set -o pipefail; '{sys.executable}' -m edgekit {arguments} | {reader}"
    done = subprocess.run(
        ["bash", "-c", command], env=edgekit_env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_full_disk_behind_standard_output_is_an_error(edgekit):
    with Path("/dev/full").open("w") as full:
        done = edgekit("awkward", "long", stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == "error EK606: Standard output cannot be written: No space left on device.\n"
    assert done.returncode == 2


def test_closed_standard_streams_do_no_harm(edgekit_env, tmp_path):
    command = f"'{sys.executable}' -m edgekit awkward print_everywhere --json 0<&- 1>&- 2>&-"
    done = subprocess.run(["bash", "-c", command], env=edgekit_env, cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_texts_are_printed_as_they_are(edgekit):
    name = "[bold]a[/b]:smile:" + "x" * 200
    assert edgekit("awkward", "long", "--where", name).stdout.startswith(f"the result{name}\n")


def test_a_crash_of_the_process_is_seen(edgekit):
    done = edgekit("awkward", "crash")
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr


def test_a_name_that_is_no_text_can_be_printed(edgekit):
    done = edgekit(b"\xff\xfe")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def _on_terminal(arguments, env, cwd) -> str:
    """What a command shows when standard error is a terminal."""
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *arguments],
        stderr=follower,
        stdout=subprocess.PIPE,
        env=env,
        cwd=cwd,
        check=False,
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # the terminal's other end is closed: all was read
        pass
    os.close(leader)
    assert done.returncode in {0, 2}
    return shown.decode()


def test_a_slow_command_shows_a_bar_on_a_terminal(edgekit_env, tmp_path):
    shown = _on_terminal(["awkward", "slow"], edgekit_env, tmp_path)
    assert "counting sheep" in shown
    assert "25/25" in shown


@pytest.mark.parametrize("arguments", [("slow", "-q"), ("slow", "--json"), ("print_everywhere",)])
def test_no_bar_when_quiet_or_fast(edgekit_env, tmp_path, arguments):
    assert _on_terminal(["awkward", *arguments], edgekit_env, tmp_path) == ""


def test_no_bar_in_a_log(edgekit):
    assert edgekit("awkward", "slow").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "environment", "colored"),
    [
        ((), {}, True),
        (("--no-color",), {}, False),
        ((), {"NO_COLOR": "1"}, False),
        ((), {"NO_COLOR": ""}, True),
    ],
)
def test_colors_can_be_turned_off(edgekit_env, tmp_path, arguments, environment, colored):
    shown = _on_terminal(["explain", "EK000", *arguments], edgekit_env | environment, tmp_path)
    assert ("\x1b[" in shown) == colored
    assert "There is no code named 'EK000'" in shown


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("json_wanted", [True, False])
def test_interruption_leaves_nothing_half_written(edgekit_env, tmp_path, name, json_wanted):
    output = tmp_path / "model.tflite"
    output.write_text("before")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "awkward", "wait", "--where", str(output)]
        + ["--json"] * json_wanted,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=edgekit_env,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(name)
    shown, log = process.communicate(timeout=30)
    assert process.returncode == 130
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
    assert output.read_text() == "before"
    assert "Traceback" not in log
    if json_wanted:
        assert json.loads(shown)["error"]["code"] == "EK912"
    else:
        assert "Interrupted" in log


def test_pressing_ctrl_c_again_does_not_disturb_the_cleaning_up(edgekit_env, tmp_path):
    command = [sys.executable, "-m", "edgekit", "awkward", "wait_twice", "--where", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=edgekit_env, cwd=tmp_path)
    assert process.stderr.readline() == "ready\n"
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert process.communicate(timeout=30)[1] == "Interrupted. Nothing half-written is left.\n"
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_during_imports_is_130_too(edgekit_env):
    script = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'edgekit.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from edgekit.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=edgekit_env, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_an_ignored_hangup_stays_ignored(edgekit_env, tmp_path):
    """As under nohup."""
    command = f"trap '' HUP; exec '{sys.executable}' -m edgekit awkward slow"
    process = subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, text=True, env=edgekit_env, cwd=tmp_path
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30)[0] == "the result\n"
    assert process.returncode == 0
