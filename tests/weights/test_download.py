"""Weights from a Hub and from plain URLs, through the real clients: cached, verified, explained when they fail."""

import hashlib
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import fbnet_zoo
from fbnet_zoo.errors import InputError, WeightsError
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights import download, loading
from fbnet_zoo.weights.sources import WeightsSource
from tests.helpers.checkpoint_files import TimmCheckpoint, image, relative_error, timm_with
from tests.helpers.hub_server import Fault, HubServer
from tests.helpers.paths import TINY
from tests.helpers.published import assert_unavailable, entry

REPO = "someone/tiny"
CARD = b"---\nlicense: bsd-3-clause\n---\n# Tiny\n"


# The Hub


def test_tag_of_timm_is_downloaded_once_and_gets_its_epsilon(
    hub: HubServer, timm_checkpoint: TimmCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    path = timm_checkpoint("fbnetc_100")[1]
    hub.add_repo("timm/fbnetc_100.rmsp_in1k", {"model.safetensors": path.read_bytes()}, licence="apache-2.0")
    published = timm_with(path, "fbnetc_100")
    networks = [
        fbnet_zoo.create("fbnetc_100", True),
        fbnet_zoo.create("fbnetc_100.rmsp_in1k"),
        fbnet_zoo.create("fbnetc_100", "hf://timm/fbnetc_100.rmsp_in1k"),
    ]
    for network in networks:
        assert (network.spec.bn_eps, network.weights, network.license) == (1e-3, "rmsp_in1k", "Apache-2.0")
        assert relative_error(network.eval()(image(96)), published(image(96))) <= 1e-5
    assert hub.count("GET", "model.safetensors") == 1
    bare = fbnet_zoo.create("fbnetc_100", path).eval()
    assert bare.spec.bn_eps == 1e-5
    assert relative_error(bare(image(96)), timm_checkpoint("fbnetc_100")[0](image(96))) <= 1e-5
    assert relative_error(bare(image(96)), published(image(96))) > 1e-4, "the epsilon makes no difference"
    told = [record.getMessage() for record in caplog.records]
    assert told == ["weights rmsp_in1k of fbnetc_100 are under the license Apache-2.0"]


@pytest.mark.slow
def test_address_published_for_timms_form_is_that_entry(
    hub: HubServer, timm_checkpoint: TimmCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    path = timm_checkpoint("fbnetv3_b")[1]
    hub.add_repo("timm/fbnetv3_b.ra2_in1k", {"model.safetensors": path.read_bytes()}, licence="mit")
    network = fbnet_zoo.create("fbnetv3_b", "hf://timm/fbnetv3_b.ra2_in1k")
    assert (network.spec.name, network.weights, network.license) == ("fbnetv3_b_timm", "ra2_in1k", "Apache-2.0")
    assert "ra2_in1k has the keys of fbnetv3_b_timm, not of fbnetv3_b: creating fbnetv3_b_timm" in caplog.text


def test_repository_of_a_user(hub: HubServer, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    hub.add_repo(REPO, {"model.safetensors": content, "pytorch_model.bin": b"", "README.md": CARD})
    for _ in range(2):
        network = fbnet_zoo.create(TINY, f"hf://{REPO}")
        assert (network.weights, network.license) == (f"hf://{REPO}", "bsd-3-clause")
    assert [record.getMessage() for record in caplog.records] == [
        "weights hf://someone/tiny of tiny are under the license bsd-3-clause"
    ]
    assert hub.count("GET", "model.safetensors") == 1
    assert hub.count("GET", "pytorch_model.bin") == 0


def test_older_files_and_named_files(hub: HubServer, tmp_path: Path) -> None:
    torch.save(fbnet_zoo.create(TINY).state_dict(), tmp_path / "a.bin")
    hub.add_repo(REPO, {"pytorch_model.bin": (tmp_path / "a.bin").read_bytes(), "deep/b.bin": b"nothing"})
    assert fbnet_zoo.create(TINY, f"hf://{REPO}").license is None
    with pytest.raises(WeightsError, match=r"b\.bin is not a checkpoint"):
        fbnet_zoo.create(TINY, f"hf://{REPO}/deep/b.bin")


@pytest.mark.parametrize(
    "card", [b"---\nlicense: [a\n---\n", b"---\n- a\n---\n", b"\xff", b"no metadata", b"---\nlicense: 3\n---\n"]
)
def test_broken_cards_do_no_harm(hub: HubServer, content: bytes, card: bytes) -> None:
    hub.add_repo(REPO, {"model.safetensors": content, "README.md": card})
    assert fbnet_zoo.create(TINY, f"hf://{REPO}").license is None


def test_cache_is_used_offline(hub: HubServer, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo(REPO, {"model.safetensors": content, "README.md": CARD})
    fbnet_zoo.create(TINY, f"hf://{REPO}")
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fbnet_zoo.create(TINY, f"hf://{REPO}").license == "bsd-3-clause"
    assert len(hub.requests) == before
    assert_unavailable(f"hf://{REPO}/other.bin", "HF_HUB_OFFLINE forbids downloads; unset it")


def test_what_the_hub_does_not_give(hub: HubServer, content: bytes) -> None:
    hub.add_repo("someone/gated", {"model.safetensors": content}, gated=True)
    hub.add_repo("someone/else", {"weights.onnx": content})
    assert_unavailable("hf://someone/missing", "does not exist or is private; check the name, or log in")
    assert_unavailable("hf://someone/gated", "requires accepting its terms; do so on its page")
    assert_unavailable("hf://someone/else", r"has no model\.safetensors or pytorch_model\.bin; give the file")
    assert_unavailable("hf://someone/else/a.bin", r"has no a\.bin; give the file")


@pytest.mark.parametrize(
    ("method", "fault", "message"),
    [
        ("GET", "unavailable", "the Hub answers 503; try again later"),
        ("GET", "drop", r"cannot be downloaded \(\w+: .*\); check the network, or give the path of a file"),
        ("HEAD", "drop", r"cannot be downloaded \(\w+: .*\); check the network, or give the path of a file"),
    ],
)
def test_hub_that_fails(hub: HubServer, content: bytes, method: str, fault: Fault, message: str) -> None:
    hub.add_repo(REPO, {"model.safetensors": content})
    hub.fail(method, fault, times=1)
    assert_unavailable(f"hf://{REPO}", message)
    assert fbnet_zoo.create(TINY, f"hf://{REPO}").weights == f"hf://{REPO}"


def test_no_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    assert_unavailable(f"hf://{REPO}", r"cannot be downloaded \(ConnectError: .*\); check the network")
    assert_unavailable("http://127.0.0.1:9/model.pth", r"cannot be downloaded \(\w+: .*\); check the network")
    assert not hub.requests


def test_damage_in_the_cache_is_noticed_and_can_be_mended(hub: HubServer, content: bytes) -> None:
    hub.add_repo(REPO, {"model.safetensors": content})
    blob = download.fetch(WeightsSource.parse(f"hf://{REPO}")).resolve()
    blob.write_bytes(bytes(byte ^ 0xFF for byte in content))
    message = rf"the file of hf://{REPO} has the sha256 .*damaged or another file: delete {blob} and try again$"
    with pytest.raises(WeightsError, match=message):
        fbnet_zoo.create(TINY, f"hf://{REPO}")
    blob.unlink()
    assert download.fetch(WeightsSource.parse(f"hf://{REPO}")).read_bytes() == content


# What a definition knows of its file


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"size": 7}, r"has \d+ bytes, expected 7; it is damaged or another file: delete .* and try again"),
        ({"sha256": "0" * 64}, rf"has the sha256 [0-9a-f]{{64}}, expected {'0' * 64}; it is damaged"),
        ({"sha256": "01234567"}, "has the sha256 [0-9a-f]{8}, expected 01234567; it is damaged"),
    ],
)
@pytest.mark.parametrize("source", ["hub", "url"])
def test_file_that_is_not_the_known_one(
    hub: HubServer, content: bytes, tiny_spec: ArchSpec, source: str, known: dict[str, object], message: str
) -> None:
    hub.add_repo(REPO, {"model.safetensors": content})
    address = f"hf://{REPO}" if source == "hub" else hub.add_file("model.safetensors", content)
    with pytest.raises(
        WeightsError, match=message.replace("delete .* and ", "" if source == "url" else "delete .* and ")
    ):
        loading.read(entry(address, tiny_spec, **known), "a")


def test_file_that_is_the_known_one(hub: HubServer, content: bytes, tiny_spec: ArchSpec) -> None:
    url = hub.add_file("model.safetensors", content)
    digest = hashlib.sha256(content).hexdigest()
    for known in ({"size": len(content), "sha256": digest}, {"sha256": digest[:8]}, {"bn_eps": 0.5}):
        found = loading.read(entry(url, tiny_spec, **known), True)
        assert (found.weights, found.license, found.spec.bn_eps) == ("a", "MIT", known.get("bn_eps", 1e-5))
    assert hub.count("GET") == 1


@pytest.mark.parametrize("address", ["hf://", "hf://owner", "hf://owner/", "ftp://host/a.pth", "file:///etc/passwd"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(InputError, match="is not a valid address of"):
        fbnet_zoo.create(TINY, address)
