"""A bad link: a TCP proxy on loopback that stalls, resets, cuts, slows down or refuses when a test says so."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field

_HOST = "127.0.0.1"
_CHUNK_BYTES = 16384


@dataclass(eq=False)
class _Link:
    """One connection: the client's side, and the server's as soon as there is one."""

    sides: list[asyncio.StreamWriter] = field(default_factory=list)

    def reset(self) -> None:
        """Close both sides with RST: what was not yet delivered is lost, as when a device loses power."""
        for side in self.sides:
            raw = side.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.transport.abort()


class FaultProxy:
    """A proxy from a port of its own to another port of loopback; it passes everything until told otherwise.

    Every fault lasts until the next call. The methods may be called from any thread.

    Attributes:
        port: Where clients connect to.
        bytes_up: What was passed from clients to the server since the start.
        bytes_down: What was passed from the server to clients.
    """

    def __init__(self, target_port: int) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task] = set()
        self._resets = False
        self._bytes_left: int | None = None
        self._counts_up = True
        self._rate: float | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        # Bound and not listening: the kernel refuses, and nobody else gets the port.
        self._closed_door: socket.socket | None = _bound(0)
        self.port: int = self._closed_door.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        self._do(self._clear())

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pass_all(self) -> None:
        """Let everything through again, including what was held back."""
        self._do(self._clear())

    def stall(self) -> None:
        """Hold everything back and keep the connections open; new ones are accepted and hear nothing."""

        async def act() -> None:
            await self._clear()
            self._flows.clear()

        self._do(act())

    def reset(self) -> None:
        """Reset every connection, and each new one as soon as it is made."""

        async def act() -> None:
            await self._clear()
            self._resets = True
            self._reset_links()

        self._do(act())

    def reset_once(self) -> None:
        """Reset every connection; new ones work."""

        async def act() -> None:
            await self._clear()
            self._reset_links()

        self._do(act())

    def cut_after(self, count: int, *, upwards: bool = True) -> None:
        """Pass ``count`` more bytes, then reset every connection; new ones work.

        Args:
            count: Bytes from now on, of all connections together; at least 1.
            upwards: Count what clients send; otherwise what the server sends.
        """

        async def act() -> None:
            await self._clear()
            self._bytes_left, self._counts_up = count, upwards

        self._do(act())

    def limit_rate(self, bytes_per_s: float) -> None:
        """Pass at most so many bytes a second in each direction of each connection."""

        async def act() -> None:
            await self._clear()
            self._rate = bytes_per_s

        self._do(act())

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as a device does whose server is down."""

        async def act() -> None:
            await self._clear()
            self._close_server()
            self._closed_door = _bound(self.port)
            self._reset_links()

        self._do(act())

    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def close(self) -> None:
        """Reset what is open and free the port; a second call does nothing."""
        if self._loop.is_closed():
            return

        async def end() -> None:
            self._close_server()
            if self._closed_door is not None:
                self._closed_door.close()
            self._reset_links()
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Aborted transports close their sockets in the loop's next round.
            await asyncio.sleep(0)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _clear(self) -> None:
        # A client whose connect() has returned may still be on its way to ``_serve``: a fault is to meet it too.
        await asyncio.sleep(0.02)
        self._resets = False
        self._bytes_left = None
        self._rate = None
        self._flows.set()
        if self._closed_door is not None:
            self._closed_door.close()
            self._closed_door = None
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port))

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reset_links(self) -> None:
        for link in self._links:
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link([writer])
        self._links.add(link)
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._flows.wait()
            if self._resets:
                raise ConnectionResetError
            server_reader, server_writer = await asyncio.open_connection(_HOST, self._target_port)
            link.sides.append(server_writer)
            await asyncio.gather(
                self._pump(reader, server_writer, upwards=True),
                self._pump(server_reader, writer, upwards=False),
            )
        except OSError:
            link.reset()  # One side is gone, so the other goes.
        except asyncio.CancelledError:
            link.reset()  # The proxy closes. The stream's own callback would call this a failure.
        finally:
            for side in link.sides:
                side.close()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self._flows.wait()
            if self._rate is not None:
                await asyncio.sleep(len(data) / self._rate)
            data, is_cut = self._take(data, upwards=upwards)
            writer.write(data)
            await writer.drain()
            if upwards:
                self.bytes_up += len(data)
            else:
                self.bytes_down += len(data)
            if is_cut:
                await _deliver(writer)
                self._reset_links()
                return
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _take(self, data: bytes, *, upwards: bool) -> tuple[bytes, bool]:
        """What of ``data`` still passes, and whether the cut comes after it."""
        if self._bytes_left is None or upwards != self._counts_up:
            return data, False
        passed = data[: self._bytes_left]
        self._bytes_left -= len(passed)
        if self._bytes_left > 0:
            return passed, False
        self._bytes_left = None
        return passed, True


async def _deliver(writer: asyncio.StreamWriter) -> None:
    """Give the last bytes before a cut to the kernel, and the receiver a moment to read them."""
    while writer.transport.get_write_buffer_size():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((_HOST, port))
    return listener
