"""Weights from plain URLs: time-outs, verified before they are kept, explained when they fail."""

import contextlib
import hashlib
import io
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import fbnet_zoo
from fbnet_zoo import _http, limits
from fbnet_zoo.errors import InputError, WeightsError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights import loading
from tests.helpers.hub_server import Fault, HubServer
from tests.helpers.paths import TINY
from tests.helpers.published import assert_unavailable, entry


def test_url_is_downloaded_once(hub: HubServer, content: bytes) -> None:
    url = hub.add_file("a/model.safetensors", content)
    other = hub.add_file("b/model.safetensors", content[::-1])
    network = fbnet_zoo.create(TINY, url)
    assert (network.weights, network.license) == (url, None)
    fbnet_zoo.create(TINY, url)
    assert [request.method for request in hub.requests] == ["GET"]
    with pytest.raises(WeightsError, match="is not a checkpoint"):  # and not the other file of that name
        fbnet_zoo.create(TINY, other)


JUNK = {
    "page": b"<!DOCTYPE html><p>Please log in",
    "empty": b"",
    "json": b'{"error": "rate limit"}',
    "header": (1 << 40).to_bytes(8, "little") + b"{}",
}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_not_kept(hub: HubServer, content: bytes, tiny_spec: ArchSpec, junk: str, suffix: str) -> None:
    """A page of a hotel's network, with the status 200: the next attempt downloads again."""
    url = hub.add_file(f"model.{suffix}", JUNK[junk])
    with pytest.raises(WeightsError, match=r"is not a checkpoint: it begins with b.*; nothing was kept: check"):
        loading.read(tiny_spec, url)
    assert kept() == []
    if suffix == "safetensors":
        hub.add_file("model.safetensors", content)
        assert loading.read(tiny_spec, url).weights == url


@pytest.mark.parametrize("legacy", [False, True])
def test_both_forms_of_torch_files_are_kept(hub: HubServer, tiny_spec: ArchSpec, legacy: bool) -> None:
    file = io.BytesIO()
    torch.save(FBNet(tiny_spec).state_dict(), file, _use_new_zipfile_serialization=not legacy)
    url = hub.add_file("model.pth", file.getvalue())
    assert loading.read(tiny_spec, url).weights == url
    hub.add_file("model.pth", file.getvalue()[: len(file.getvalue()) // 2])
    assert loading.read(tiny_spec, url).weights == url, "from the cache"
    if not legacy:
        half = hub.add_file("half.pth", file.getvalue()[: len(file.getvalue()) // 2])  # announced as if it were whole
        with pytest.raises(WeightsError, match="is not a checkpoint"):
            loading.read(tiny_spec, half)
        assert len(kept()) == 1


@pytest.mark.parametrize("published", [True, False])
def test_wrong_file_in_the_cache_can_be_got_rid_of(
    hub: HubServer, content: bytes, tiny_spec: ArchSpec, published: bool
) -> None:
    url = hub.add_file("model.safetensors", content)
    spec, source = (entry(url, tiny_spec), "a") if published else (tiny_spec, url)
    (path,) = (loading.read(spec, source), kept())[1]
    path.write_bytes(JUNK["page"])
    for _ in range(2):
        with pytest.raises(WeightsError, match=rf"is not a checkpoint.*: delete {path} and try again") as caught:
            loading.read(spec, source)
    assert str(path) in str(caught.value)
    path.unlink()
    assert loading.read(spec, source).weights == source


class TestSlowServers:
    """A server that accepts the connection and then does not answer, stops halfway, or sends a byte now and then."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_http, "TIMEOUT_S", 0.5)
        monkeypatch.setattr(_http, "SPEED_TIME_S", 0.5)

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nhalf"])
    def test_one_that_stalls(self, sent: bytes) -> None:
        with slow_server(sent, b"") as url:
            assert_unavailable(url, r"cannot be downloaded \(TimeoutError: .*timed out\); check the network")
        assert kept() == []

    def test_one_that_drips(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n"
        with slow_server(head, b"x" * 999_999) as url:
            assert_unavailable(url, r"\(TimeoutError: slower than 1000 bytes per second for \d+ s\); check the network")
        assert kept() == []


def test_file_that_never_ends_is_not_stored(
    hub: HubServer, content: bytes, monkeypatch: pytest.MonkeyPatch, tiny_spec: ArchSpec
) -> None:
    monkeypatch.setenv(limits.VARIABLE, "download_bytes=100")
    url = hub.add_file("model.safetensors", content)
    with pytest.raises(InputError, match=rf"{url} has [\d,]+ bytes; expected at most 100, .*download_bytes=\d+"):
        loading.read(tiny_spec, url)
    with (
        slow_server(b"HTTP/1.0 200 OK\r\n\r\n" + content, b"") as endless,
        pytest.raises(InputError, match=r"has sent [\d,]+ bytes; expected at most 100"),
    ):
        loading.read(tiny_spec, endless)
    assert kept() == []


@contextmanager
def slow_server(first: bytes, rest: bytes) -> Iterator[str]:
    """Serve one connection: the first bytes at once, the rest one by one, then nothing until the client leaves."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(first)
            for at in range(len(rest)):
                connection.sendall(rest[at : at + 1])
                time.sleep(0.02)
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/model.safetensors"
        thread.join()


def kept() -> list[Path]:
    return [path for path in Path(torch.hub.get_dir()).rglob("*") if path.is_file()]


@pytest.mark.parametrize("fault", ["truncate", "corrupt"])
def test_damaged_download_is_not_kept(hub: HubServer, content: bytes, tiny_spec: ArchSpec, fault: Fault) -> None:
    url = hub.add_file("model.safetensors", content)
    spec = entry(url, tiny_spec, sha256=hashlib.sha256(content).hexdigest())
    hub.fail("GET", fault)
    with pytest.raises(WeightsError, match=rf"the file of {url} has .*, expected .*; it is damaged .*: try again$"):
        loading.read(spec, "a")
    assert kept() == []
    assert loading.read(spec, "a").weights == "a"


def test_truncated_download_of_an_unknown_file_is_not_kept(hub: HubServer, content: bytes) -> None:
    url = hub.add_file("model.safetensors", content)
    hub.fail("GET", "truncate")
    message = (
        f"the file of {url} has {len(content) // 2} bytes, expected {len(content)}; it is damaged or another file: try"
    )
    with pytest.raises(WeightsError, match=message):
        fbnet_zoo.create(TINY, url)
    assert kept() == []
    assert fbnet_zoo.create(TINY, url).weights == url


def test_what_a_server_does_not_give(hub: HubServer, content: bytes) -> None:
    assert_unavailable(f"{hub.endpoint}/files/missing.pth", "the server answers 404; check the address")
    url = hub.add_file("model.safetensors", content)
    hub.fail("GET", "unavailable")
    assert_unavailable(url, "the server answers 503; try again later")
    hub.fail("GET", "drop")
    assert_unavailable(url, r"cannot be downloaded \(\w+: .*\); check the network, or give the path of a file")


@pytest.fixture
def full_disk(content: bytes) -> Iterator[None]:
    """Let no file of this process grow beyond half a checkpoint; the error has another number, and the same cure."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("source", ["url", "hub"])
@pytest.mark.usefixtures("full_disk")
def test_cache_on_a_full_disk_is_named(hub: HubServer, content: bytes, source: str) -> None:
    hub.add_repo("someone/network", {"model.safetensors": content})
    url = hub.add_file("model.safetensors", content) if source == "url" else "hf://someone/network"
    folder = Path(torch.hub.get_dir()) / "checkpoints" if source == "url" else Path(constants.HF_HUB_CACHE)
    with pytest.raises(InputError, match=rf"{folder} cannot be written \(File too large\); free some space") as caught:
        fbnet_zoo.create(TINY, url)
    assert "network" not in str(caught.value).removeprefix(str(folder))


@pytest.mark.parametrize(("source", "variable"), [("url", "TORCH_HOME"), ("hub", "HF_HOME")])
def test_cache_that_cannot_be_written_is_named(
    hub: HubServer, content: bytes, source: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of this name may not be made, not even by root: there is a file."""
    hub.add_repo("someone/network", {"model.safetensors": content})
    url = hub.add_file("model.safetensors", content) if source == "url" else "hf://someone/network"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/proc/self/torch")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/proc/self/hub")
    with pytest.raises(
        WeightsError,
        match=rf"cannot be kept \(No such .*/proc/.*\); choose .* the variable {variable}",
    ):
        fbnet_zoo.create(TINY, url)
