"""Requests to worker.py or to the runner, and what they answer."""

import io
import json
import os
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Answers:
    """What a worker answered; every reply has its bytes as ``blob``."""

    replies: list
    status: int
    errors: str

    @property
    def opened(self):
        assert "error" not in self.replies[0], self.replies[0]
        return self.replies[0]


def ask(command, *requests, close=True, environment=None, timeout=300):
    """Send requests, each perhaps with a ``blob``, to a worker or a runner."""
    content = b""
    for request in [*requests, *([{"verb": "close"}] if close else [])]:
        blob = request.get("blob", b"")
        fields = {name: value for name, value in request.items() if name != "blob"}
        if blob:
            fields["blob_bytes"] = len(blob)
        content += json.dumps({"nonce": "n1", "deadline_s": 60, **fields}).encode() + b"\n" + blob
    return exchange(command, content, environment=environment, timeout=timeout)


def exchange(command, content, *, environment=None, timeout=300):
    done = subprocess.run(
        [str(word) for word in command],
        input=content,
        capture_output=True,
        env={**os.environ, **(environment or {})},
        timeout=timeout,
        check=False,
    )
    stream, replies = io.BytesIO(done.stdout), []
    for line in stream:
        reply = json.loads(line)
        reply["blob"] = stream.read(reply.get("blob_bytes", 0))
        replies.append(reply)
    return Answers(replies, done.returncode, done.stderr.decode(errors="replace"))
