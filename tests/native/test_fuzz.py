"""Damaged requests and models against the runner with sanitizers: errors and early ends, never a wrong access."""

import json
import random
import signal

import pytest

from native.talk import ask, exchange

pytestmark = pytest.mark.slow

_LINES = 1000
_PIECES = [
    b'"',
    b"\\",
    b"\\u12",
    b"\\ud800",
    b"\xff\xfe",
    b"\x00",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-",
    b"1e999",
]
_PIECES += [b"null", b"true", b"99999999999999999999", b"0.1e-5", b'"blob_bytes": 7', b"\r", b" " * 200]


def damaged(line, chance):
    """The line with a few bytes changed, cut out or put in."""
    content = bytearray(line)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(content) + 1)
        kind = chance.randrange(3)
        if kind == 0 and at < len(content):
            content[at] = chance.randrange(256)
        elif kind == 1:
            del content[at : at + chance.randint(1, 30)]
        else:
            content[at:at] = chance.choice(_PIECES)
    return bytes(content).replace(b"\n", b" ") + b"\n"


def requests(model):
    return [
        json.dumps(request).encode()
        for request in (
            {
                "verb": "open",
                "model": str(model),
                "threads": 1,
                "xnnpack": True,
                "seed": 3,
                "nonce": "ab\\u00e9",
            },
            {"verb": "predict", "feeds": 1, "shapes": [[1, 4], [1, 4]], "nonce": 1},
            {"verb": "measure", "runs": 2, "max_seconds": 0.01, "settle_ms": 0.1, "nonce": None},
            {"verb": "warm", "runs": 2, "max_seconds": 0.01},
            {"verb": "conditions", "window_s": 0.0, "own_pids": [1, 2, 3], "deadline_s": 20},
        )
    ]


def test_damaged_lines(runner, sum_model):
    chance = random.Random(20)  # noqa: S311
    lines = requests(sum_model)
    ended = answered = 0
    todo = [damaged(chance.choice(lines), chance) for _ in range(_LINES)]
    while todo:
        answers = exchange(runner, lines[0] + b"\n" + b"".join(todo))
        # 1 after a line that was no request, the signal where a damaged deadline came true.
        assert answers.status in {1, -signal.SIGALRM}, answers.errors[-3000:]
        assert "Sanitizer" not in answers.errors
        assert "runtime error" not in answers.errors
        done = max(1, len(answers.replies) - 1)
        answered += done
        ended += 1
        todo = todo[done:]
    assert answered > ended / 2


def test_damaged_models(runner, tmp_path, models):
    """The verifier of the library catches most; the runner must cope with whatever it lets through."""
    chance = random.Random(21)  # noqa: S311
    content = models.tflite_cnn_int8.read_bytes()
    opened = refused = 0
    for number in range(150):
        broken = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(broken)
        answers = ask(
            runner, {"verb": "open", "model": str(path)}, {"verb": "measure", "runs": 1, "max_seconds": 1}
        )
        if answers.status == 0:
            opened += "error" not in answers.replies[0]
            refused += "error" in answers.replies[0]
        frames = [line for line in answers.errors.splitlines() if " in " in line and "#0 " in line]
        # A crash inside of the library is the library's own; none may be in the runner.
        assert not any("/native/" in frame for frame in frames), answers.errors[-3000:]
        assert "runtime error" not in answers.errors
    assert opened > 0
    assert refused > 0
