"""A command's streams: deadlines that hold, bytes that arrive, and nothing that is left open."""

import os
import time
from pathlib import Path

import pytest
from devicelab.processes import is_alive, wait_until

from edgekit.devices.channel import Ended, ProcessChannel, last_words


@pytest.fixture
def start():
    """Start commands; all are closed with the test."""
    started = []

    def start(*words: str, detached: bool = False) -> ProcessChannel:
        started.append(ProcessChannel(words, detached=detached))
        return started[-1]

    yield start
    for channel in started:
        channel.close()


def soon() -> float:
    return time.monotonic() + 5


def test_lines_bytes_and_the_rest(start):
    channel = start("sh", "-c", "printf 'one\\n\\n'; head -c 5; printf 'two\\nend'; echo bad >&2; exit 3")
    channel.write(b"12345", soon())
    assert channel.read_line(soon()) == b"one"
    assert channel.read_line(soon()) == b""
    assert channel.read_exact(5, soon()) == b"12345"
    assert channel.read_line(soon()) == b"two"
    assert channel.read_line(soon()) == b"end"
    with pytest.raises(Ended):
        channel.read_line(soon())
    with pytest.raises(Ended):
        channel.read_exact(1, soon())
    assert channel.exit_status() == 3
    assert channel.error_text() == "bad"


def test_more_than_a_pipe_holds_goes_both_ways_at_once(start):
    channel = start("cat")
    content = os.urandom(3_000_000)
    channel.write(content, soon())
    channel.end_input()
    assert channel.read_all(soon(), 10_000_000) == content


@pytest.mark.parametrize("command", ["sleep 100", "yes", "yes | tr -d '\\n'"])
def test_deadlines_hold_against_silence_and_against_endless_talk(start, command):
    channel = start("sh", "-c", command, detached=True)
    began = time.monotonic()
    lines = iter(lambda: channel.read_line(began + 0.15), None)
    # A line without an end may be longer than any before the time is over.
    with pytest.raises((TimeoutError, Ended)):
        list(lines)
    with pytest.raises(TimeoutError):
        channel.read_all(time.monotonic() + 0.15, 1 << 30)
    with pytest.raises(TimeoutError):
        channel.write(bytes(10_000_000), time.monotonic() + 0.15)
    assert time.monotonic() - began < 3


def test_what_reads_no_more_ends_the_writing(start):
    channel = start("true")
    with pytest.raises(Ended):
        channel.write(bytes(10_000_000), soon())
    channel.end_input()
    with pytest.raises(Ended):
        channel.write(b"x", soon())


def test_output_without_bounds_is_not_kept(start):
    channel = start("yes")
    with pytest.raises(TimeoutError):
        channel.read_all(soon(), 100_000)


def test_looking_at_the_errors_disturbs_nobody(start):
    channel = start("sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i + 1)); done")
    while channel.error_text().splitlines()[-1:] != ["line 2999"]:
        pass
    lines = channel.error_text().splitlines()
    assert lines[-100:] == [f"line {i}" for i in range(2900, 3000)]


def test_of_endless_errors_the_beginning_and_the_end_are_kept(start):
    flood = "head -c 50000000 /dev/zero | tr '\\0' x"
    channel = start("sh", "-c", f"echo cause >&2; {flood} >&2; echo effect >&2; echo done; exit 3")
    assert channel.read_line(soon()) == b"done"
    assert channel.exit_status() == 3
    said = channel.error_text()
    assert said.startswith("cause\nxxx")
    assert said.endswith("xxxeffect")
    left_out = int(said.split("[")[1].split(" bytes left out]")[0].replace(",", ""))
    assert said.count("x") + left_out == 50_000_000
    assert len(said) < 7000


def test_who_talks_on_after_its_output_was_closed_comes_to_its_end(start):
    channel = start("sh", "-c", "exec >&-; head -c 3000000 /dev/zero >&2; exit 4")
    with pytest.raises(Ended):
        channel.read_line(soon())
    assert channel.exit_status() == 4


@pytest.mark.parametrize("detached", [False, True])
def test_a_closed_channel_leaves_no_process(start, detached):
    channel = start("sh", "-c", "sleep 1000 & echo $!; wait", detached=detached)
    child = int(channel.read_line(soon()))
    channel.close()
    channel.close()
    assert not is_alive(channel.pid)
    if detached:
        wait_until(lambda: not is_alive(child), "the end of what it started")
    else:
        os.kill(child, 9)


def test_a_process_that_closed_its_output_and_goes_on_has_no_status(start, monkeypatch):
    monkeypatch.setattr("edgekit.devices.channel._END_S", 0.1)
    channel = start("sh", "-c", "exec >&- 2>&-; exec sleep 1000")
    with pytest.raises(Ended):
        channel.read_line(soon())
    assert channel.exit_status() is None


def test_a_program_that_is_not_there_leaves_no_descriptor(start):
    before = sorted(entry.name for entry in Path("/proc/self/fd").iterdir())
    with pytest.raises(FileNotFoundError):
        start("/no/such/program")
    assert sorted(entry.name for entry in Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ""),
        ("\n \n", ""),
        ("one\ntwo.\n\n", "two"),
        ("tab\there \x1b[1m", "tab here  [1m"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_last_words_fit_into_a_sentence(said, expected):
    assert last_words(said) == expected
