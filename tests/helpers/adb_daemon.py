"""The device's end of adb on the loopback interface, for the real adb client and server to talk to.

It speaks the transport, shell (v1 and v2) and sync protocols (protocol.txt, shell_protocol.h and SYNC.TXT of
https://android.googlesource.com/platform/packages/modules/adb/), keeps the device's files below one folder, and can be
told to fail. Commands are run by this machine's shell: in what comes in, `/data/local/tmp`, `/sys/devices` and
`/sys/class/power_supply` mean folders below `root`, and programs in `root/bin` come before all others.
"""

import asyncio
import contextlib
import os
import re
import signal
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Literal, Self

from tests.helpers.adb_services import DEVICE_PATH, Sync, run_shell
from tests.helpers.surroundings import PATIENCE_S

Kind = Literal["drop", "unplug", "slow", "full", "lose", "corrupt"]
Access = Literal["open", "unauthorized", "silent"]

HEADER = struct.Struct("<4s5I")
VERSION, LARGEST = 0x01000000, 256 * 1024
BANNER = "device::ro.product.name=sandbox;ro.product.model=Sandbox;ro.product.device=sandbox;features={features}"


@dataclass(slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with the next `times` services whose name matches.

    `drop` breaks the connection `after` seconds after the service starts and once the file `until` exists, `unplug` for
    good; `slow` waits `after` seconds before it starts. Files are the services `push:<path>` and `pull:<path>`: `full`
    refuses what is pushed beyond `after` bytes, `lose` stores nothing and does not say so, `corrupt` changes one bit.
    """

    kind: Kind
    service: str
    after: float = 0
    until: Path | None = None
    times: int = 1


class AdbDaemon:
    """Listens on a port of its own; `serial` is what adb calls it."""

    def __init__(self, root: Path, *, shell_v2: bool = True, access: Access = "open") -> None:
        self.root, self.shell_v2, self.access = root, shell_v2, access
        self.faults: list[Fault] = []
        self.services: list[str] = []
        self.processes: list[asyncio.subprocess.Process] = []
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._transports: list[Transport] = []

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        (self.root / "data/local/tmp").mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def unplug(self) -> None:
        """Break the connection and accept no other."""
        self._call(self._unplug())

    def plug_in(self) -> None:
        """Accept connections again, at the same port."""
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", self.port))

    def path(self, device_path: str) -> Path:
        """Where a file of the device lies here."""
        return Path(DEVICE_PATH.sub(f"{self.root}/", device_path))

    def take(self, service: str, *kinds: Kind) -> Fault | None:
        """Return the next fault that is due for a service, and count it."""
        for fault in self.faults:
            if fault.times > 0 and fault.kind in kinds and re.search(fault.service, service):
                fault.times -= 1
                return fault
        return None

    async def break_link(self, fault: Fault, transport: "Transport") -> None:
        """Do what `drop` and `unplug` say."""
        await asyncio.sleep(fault.after)
        while fault.until and not fault.until.exists():
            await asyncio.sleep(0.01)
        if fault.kind == "unplug":
            await self._unplug()
        transport.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=PATIENCE_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = Transport(self, reader, writer)
        self._transports.append(transport)
        await transport.serve()
        transport.close()

    async def _unplug(self) -> None:
        self._server.close()
        for transport in self._transports:
            transport.close()

    async def _stop(self) -> None:
        await self._unplug()
        for process in self.processes:
            if process.returncode is None:  # else its number may be somebody else's by now
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            process._transport.close()  # type: ignore[attr-defined]
        await asyncio.gather(*(transport.stop() for transport in self._transports))


@dataclass(slots=True, eq=False)
class Stream:
    """One service in progress; every write waits for the other side's OKAY."""

    transport: "Transport"
    local: int
    remote: int
    inbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    buffer: bytes = b""
    closed: bool = False
    process: asyncio.subprocess.Process | None = None

    def close(self) -> None:
        if self.process and self.process.returncode is None and not self.closed:
            self.process.send_signal(signal.SIGHUP)
        self.closed = True
        self.ready.set()
        self.inbox.put_nowait(b"")

    async def writable(self) -> None:
        await self.ready.wait()
        if self.closed:
            raise ConnectionResetError

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), LARGEST):
            await self.writable()
            self.ready.clear()
            await self.transport.send(b"WRTE", self.local, self.remote, data[start : start + LARGEST])

    async def read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = await self.inbox.get()
            if not data:
                raise EOFError
            self.buffer += data
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken


class Transport:
    """One connection of the adb server."""

    def __init__(self, daemon: AdbDaemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.daemon, self.reader, self.writer = daemon, reader, writer
        self.streams: dict[int, Stream] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        self.writer.close()
        self.reader.feed_eof()
        for stream in self.streams.values():
            stream.close()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        self.writer.write(HEADER.pack(command, first, second, len(data), sum(data) & 0xFFFFFFFF, magic) + data)
        await self.writer.drain()

    async def serve(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command, first, second, size, _, _ = HEADER.unpack(await self.reader.readexactly(HEADER.size))
                await self._handle(command, first, second, await self.reader.readexactly(size))

    async def _handle(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command in {b"CNXN", b"AUTH"}:
            await self._greet(command, first)
        elif command == b"OPEN":
            self._open(first, data.rstrip(b"\0").decode())
        elif stream := self.streams.get(second):
            if command == b"OKAY":
                stream.ready.set()
            elif command == b"WRTE":
                await stream.inbox.put(data)
                await self.send(b"OKAY", stream.local, stream.remote)
            elif command == b"CLSE":
                stream.close()

    async def _greet(self, command: bytes, kind: int) -> None:
        public_key = 3
        if self.daemon.access == "unauthorized" and not (command == b"AUTH" and kind == public_key):
            await self.send(b"AUTH", 1, 0, os.urandom(20))  # no signature is good enough; a key waits for the owner
        elif self.daemon.access == "open":
            banner = BANNER.format(features="shell_v2,cmd" if self.daemon.shell_v2 else "cmd")
            await self.send(b"CNXN", VERSION, LARGEST, banner.encode())

    def _open(self, remote: int, service: str) -> None:
        stream = Stream(self, len(self.streams) + 1, remote)
        self.streams[stream.local] = stream
        self.daemon.services.append(service)
        work = [self._run(stream, service)]
        if fault := self.daemon.take(service, "drop", "unplug"):
            work.append(self.daemon.break_link(fault, self))
        for coroutine in work:
            task = asyncio.ensure_future(coroutine)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, stream: Stream, service: str) -> None:
        if fault := self.daemon.take(service, "slow"):
            await asyncio.sleep(fault.after)
        name, _, command = service.partition(":")
        with contextlib.suppress(EOFError, ConnectionError):
            await self.send(b"OKAY", stream.local, stream.remote)
            stream.ready.set()
            if name == "sync":
                await Sync(self.daemon, stream).serve()
            else:
                await run_shell(self.daemon, stream, command, packets=name.startswith("shell,v2"))
            await stream.writable()
            await self.send(b"CLSE", stream.local, stream.remote)
