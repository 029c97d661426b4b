"""What runs behind the connection of `adb_daemon`: the shell and the transfer of files."""

import asyncio
import re
import stat
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.helpers.adb_daemon import AdbDaemon, Stream

CHUNK = 64 * 1024
STDOUT, STDERR, EXIT = 1, 2, 3
DEVICE_PATH = re.compile(r"(?<![\w/])/(?=data/local/tmp|sys/(?:devices|class/power_supply))")


async def run_shell(daemon: "AdbDaemon", stream: "Stream", command: str, *, packets: bool) -> None:
    """Run a command; v2 tells its streams apart and its exit code, v1 does neither and ends lines like a terminal.

    When the other side goes, v2 hangs up on the shell and nothing else (`PassDataStreams` of adbd's
    shell_service.cpp). v1 leaves it running, although the terminal of a real one would hang up, too.
    """
    environment = {"PATH": f"{daemon.root}/bin:/usr/bin:/bin", "SANDBOX": str(daemon.root), "HOME": str(daemon.root)}
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", DEVICE_PATH.sub(f"{daemon.root}/", command)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if packets else asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    daemon.processes.append(process)
    if packets:
        stream.process = process

    async def forward(source: asyncio.StreamReader | None, kind: int) -> None:
        while source and (data := await source.read(CHUNK)):
            packet = struct.pack("<BI", kind, len(data)) + data
            await stream.write(packet if packets else data.replace(b"\n", b"\r\n"))

    await asyncio.gather(forward(process.stdout, STDOUT), forward(process.stderr, STDERR))
    code = await process.wait()
    if packets:
        await stream.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))


class Sync:
    """File transfer: requests of a four-letter name, a length and a path or data."""

    def __init__(self, daemon: "AdbDaemon", stream: "Stream") -> None:
        self.daemon, self.stream = daemon, stream

    async def serve(self) -> None:
        while True:
            name, size = struct.unpack("<4sI", await self.stream.read(8))
            if name == b"QUIT":
                return
            text = (await self.stream.read(size)).decode()
            handlers = {b"STAT": self._stat, b"SEND": self._receive, b"RECV": self._send}
            await handlers[name](text)

    async def _stat(self, name: str) -> None:
        path = self.daemon.path(name)
        found = path.stat() if path.exists() else None
        numbers = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
        await self.stream.write(struct.pack("<4s3I", b"STAT", *numbers))

    async def _receive(self, request: str) -> None:
        name, _, mode = request.rpartition(",")
        content = b""
        while (header := struct.unpack("<4sI", await self.stream.read(8)))[0] == b"DATA":
            content += await self.stream.read(header[1])
        path = self.daemon.path(name)
        full = self.daemon.take(f"push:{name}", "full")
        if full or not path.parent.is_dir():
            await self._fail("write failed: No space left on device" if full else "No such file or directory")
            path.write_bytes(content[: int(full.after)]) if full else None
            return
        if not self.daemon.take(f"push:{name}", "lose"):
            path.write_bytes(self._carried(f"push:{name}", content))
            path.chmod(stat.S_IMODE(int(mode)))
        await self.stream.write(struct.pack("<4sI", b"OKAY", 0))

    async def _send(self, name: str) -> None:
        path = self.daemon.path(name)
        if not path.is_file():
            await self._fail("No such file or directory")
            return
        content = self._carried(f"pull:{name}", path.read_bytes())
        for start in range(0, len(content), CHUNK):
            chunk = content[start : start + CHUNK]
            await self.stream.write(struct.pack("<4sI", b"DATA", len(chunk)) + chunk)
        await self.stream.write(struct.pack("<4sI", b"DONE", 0))

    def _carried(self, what: str, content: bytes) -> bytes:
        return content[:-1] + bytes([content[-1] ^ 1]) if self.daemon.take(what, "corrupt") else content

    async def _fail(self, reason: str) -> None:
        await self.stream.write(struct.pack("<4sI", b"FAIL", len(reason)) + reason.encode())
