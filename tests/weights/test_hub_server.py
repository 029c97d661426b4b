"""The local Hub of the tests, judged by the real client; and what the clients do not check themselves."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fbnet_zoo._http import download
from tests.helpers.hub_server import HubServer

REPO = "someone/network"
NAME = "model.safetensors"
CONTENT = bytes(range(256)) * 512


def fetch(*, revision: str | None = None, token: str | None = None) -> bytes:
    """Download the file of the test repository with the real client and return its bytes."""
    return Path(hf_hub_download(REPO, NAME, revision=revision, token=token)).read_bytes()


def test_second_download_comes_from_the_cache(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT})
    assert fetch() == CONTENT
    assert fetch() == CONTENT
    assert hub.count("HEAD", NAME) == 2
    assert hub.count("GET", NAME) == 1
    assert hub.count("GET") == 1


def test_pinned_commit_needs_no_request_the_second_time(hub: HubServer) -> None:
    commit = hub.add_repo(REPO, {NAME: CONTENT})
    assert fetch(revision=commit) == CONTENT
    before = len(hub.requests)
    assert fetch(revision=commit) == CONTENT
    assert len(hub.requests) == before


def test_new_content_is_a_new_commit_and_is_downloaded(hub: HubServer) -> None:
    old = hub.add_repo(REPO, {NAME: CONTENT})
    fetch()
    new = hub.add_repo(REPO, {NAME: CONTENT[::-1]})
    assert new != old
    assert fetch() == CONTENT[::-1]
    with pytest.raises(RevisionNotFoundError, match="Revision Not Found"):
        fetch(revision="f" * 40)


def test_offline_uses_the_cache_and_says_when_it_is_empty(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo(REPO, {NAME: CONTENT, "other": b"1"})
    fetch()
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch() == CONTENT
    with pytest.raises(LocalEntryNotFoundError, match=r"annot find the requested files"):
        hf_hub_download(REPO, "other")
    assert len(hub.requests) == before


def test_other_processes_find_the_server_and_the_cache(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT})
    script = f"from huggingface_hub import hf_hub_download; print(hf_hub_download({REPO!r}, {NAME!r}))"
    paths = [
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
        for environment in (dict(os.environ), {**os.environ, "HF_HUB_OFFLINE": "1"})
    ]
    assert {Path(path.stdout.strip()).read_bytes() for path in paths} == {CONTENT}
    assert paths[0].stdout.strip() == hf_hub_download(REPO, NAME)
    assert hub.count("GET", NAME) == 1


def test_interrupted_download_is_resumed(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)  # bytes; a lost chunk is fetched again
    hub.add_repo(REPO, {NAME: CONTENT})
    hub.fail("GET", "truncate")
    assert fetch() == CONTENT
    assert [request.range for request in hub.requests if request.method == "GET"] == [
        None,
        f"bytes={len(CONTENT) // 2}-",
    ]


def test_client_does_not_notice_wrong_bytes(hub: HubServer) -> None:
    """This is why digests are checked after a download."""
    hub.add_repo(REPO, {NAME: CONTENT})
    hub.fail("GET", "corrupt")
    content = fetch()
    assert len(content) == len(CONTENT)
    assert content != CONTENT


def test_missing_half_of_a_plain_file_is_noticed_by_the_announced_size(hub: HubServer, tmp_path: Path) -> None:
    url = hub.add_file("weights.pth", CONTENT)
    hub.fail("GET", "truncate")
    assert download(url, tmp_path / "weights.pth") == len(CONTENT)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT[: len(CONTENT) // 2]


def test_unavailable_hub_leaves_the_cache_usable(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT})
    fetch()
    hub.fail("HEAD", "unavailable")
    assert fetch() == CONTENT
    assert hub.count("GET") == 1


def test_unavailable_file_is_an_error(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT})
    hub.fail("GET", "unavailable")
    with pytest.raises(HfHubHTTPError, match="503"):
        fetch()
    assert fetch() == CONTENT


def test_dropped_connection_is_retried(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT})
    hub.fail("GET", "drop")
    assert fetch() == CONTENT
    assert hub.count("GET", NAME) == 2


def test_missing_repository_file_and_revision(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT})
    with pytest.raises(RepositoryNotFoundError, match="Repository Not Found"):
        hf_hub_download("someone/else", NAME)
    with pytest.raises(EntryNotFoundError, match="Entry Not Found"):
        hf_hub_download(REPO, "missing.bin")
    with pytest.raises(RevisionNotFoundError, match="Revision Not Found"):
        hf_hub_download(REPO, NAME, revision="v2")


def test_gated_repository_wants_a_token(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT}, gated=True)
    with pytest.raises(GatedRepoError, match="Cannot access gated repo"):
        fetch()
    assert fetch(token="hf_test") == CONTENT
    assert hub.requests[-1].token == "Bearer hf_test"


def test_no_token_of_the_user_reaches_the_server(hub: HubServer) -> None:
    hub.add_repo(REPO, {NAME: CONTENT})
    fetch()
    assert get_token() is None
    assert {request.token for request in hub.requests} == {None}


def test_model_info_names_files_commit_and_licence(hub: HubServer) -> None:
    commit = hub.add_repo(REPO, {NAME: CONTENT, "README.md": b"# A network"}, licence="apache-2.0")
    for revision in (None, "main", commit):
        info = HfApi().model_info(REPO, revision=revision)
        assert info.sha == commit
        assert [sibling.rfilename for sibling in info.siblings or ()] == ["README.md", NAME]
        assert info.card_data is not None
        assert info.card_data.license == "apache-2.0"
    with pytest.raises(RepositoryNotFoundError, match="Repository Not Found"):
        HfApi().model_info("someone/else")


def test_plain_url_is_downloaded(hub: HubServer, tmp_path: Path) -> None:
    url = hub.add_file("weights.pth", CONTENT)
    assert download(url, tmp_path / "weights.pth") == len(CONTENT)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("header", "expected"), [("bytes=10-", CONTENT[10:]), ("bytes=0-9", CONTENT[:10]), (None, CONTENT)]
)
def test_ranges_of_plain_files(hub: HubServer, header: str | None, expected: bytes) -> None:
    request = urllib.request.Request(hub.add_file("a", CONTENT), headers={"Range": header} if header else {})
    with urllib.request.urlopen(request) as response:
        assert response.read() == expected
        assert response.status == (200 if header is None else 206)
