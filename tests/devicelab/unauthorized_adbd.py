"""A phone whose owner has not allowed this computer: an adb device that asks for a signature for ever.

Runs as a script, in the network of the adb server: ``python unauthorized_adbd.py PORT``.
"""

import contextlib
import socket
import struct
import sys
import threading

_HEADER = struct.Struct("<6I")
_AUTH = int.from_bytes(b"AUTH", "little")
_ASK_FOR_SIGNATURE = 1
_OFFER_KEY = 3


def main() -> None:
    """Listen on loopback until killed."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        while True:
            threading.Thread(target=_refuse, args=[listener.accept()[0]], daemon=True).start()


def _refuse(client: socket.socket) -> None:
    token = b"\0" * 20
    question = _HEADER.pack(_AUTH, _ASK_FOR_SIGNATURE, 0, len(token), sum(token), _AUTH ^ 0xFFFFFFFF) + token
    with client, contextlib.suppress(OSError), client.makefile("rb") as stream:
        while len(header := stream.read(_HEADER.size)) == _HEADER.size:
            command, kind, _, size, _, _ = _HEADER.unpack(header)
            stream.read(size)
            # The client's last word is its public key, which a phone would now show to its owner.
            if (command, kind) != (_AUTH, _OFFER_KEY):
                client.sendall(question)


if __name__ == "__main__":
    main()
