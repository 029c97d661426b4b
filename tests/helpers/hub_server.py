"""A Hugging Face Hub on the loopback interface, for the real client to talk to.

It speaks what `huggingface_hub` needs to describe a model repository and to download its files (https://huggingface.co/docs/hub/api),
serves plain URLs below `/files/`, and can be told to fail.
Nothing of the client is replaced: the fixture `hub` only changes its settings.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

import pytest

Fault = Literal["truncate", "corrupt", "drop", "unavailable"]

RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
MODEL_INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")
PLAIN = re.compile(r"/files/(?P<name>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """A model repository with one commit, which the branch `main` points to."""

    files: Mapping[str, bytes]
    licence: str | None
    gated: bool

    @property
    def commit(self) -> str:
        """Forty hexadecimal digits that change with the content."""
        parts = (name.encode() + content for name, content in sorted(self.files.items()))
        return hashlib.sha1(b"\0".join(parts), usedforsecurity=False).hexdigest()

    def has_revision(self, revision: str | None) -> bool:
        """Whether `revision` is the default, the branch or the commit."""
        return revision in {None, "main", self.commit}

    def info(self, repo_id: str) -> dict[str, object]:
        """Return what the Hub says about the repository."""
        return {
            "id": repo_id,
            "modelId": repo_id,
            "sha": self.commit,
            "private": False,
            "gated": "manual" if self.gated else False,
            "tags": [f"license:{self.licence}"] if self.licence else [],
            "cardData": {"license": self.licence} if self.licence else {},
            "siblings": [{"rfilename": name} for name in sorted(self.files)],
        }


class HubServer:
    """The server: what it serves, what it was asked, and how it fails.

    It listens on a free port of the loopback interface, and answers between entering and leaving its context.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: list[tuple[str, Fault]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))

    def __enter__(self) -> Self:
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def endpoint(self) -> str:
        """The value for `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def add_repo(
        self, repo_id: str, files: Mapping[str, bytes], *, licence: str | None = None, gated: bool = False
    ) -> str:
        """Create or replace the model repository `repo_id` (`owner/name`) and return its commit.

        A gated repository answers only to requests that carry a token, whatever the token is.
        """
        self.repos[repo_id] = Repo(files=dict(files), licence=licence, gated=gated)
        return self.repos[repo_id].commit

    def add_file(self, name: str, content: bytes) -> str:
        """Serve `content` outside of any repository and return its URL."""
        self.files[name] = content
        return f"{self.endpoint}/files/{name}"

    def fail(self, method: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next `times` requests with this method (`HEAD`, `GET`) fail.

        `truncate` announces the whole body, sends half and hangs up; `corrupt` sends the right number of wrong bytes;
        `drop` hangs up without an answer; `unavailable` answers 503.
        """
        self.faults.extend([(method, fault)] * times)

    def count(self, method: str, end: str = "") -> int:
        """Return how many requests with this method had a path that ends in `end`."""
        return sum(request.method == method and request.path.endswith(end) for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request per connection, so that stopping the server leaves no thread waiting."""

    hub: HubServer

    def log_message(self, *_: object) -> None:
        """Stay silent: the requests are kept in `HubServer.requests`."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers["Authorization"]
        self.hub.requests.append(Request(method=self.command, path=path, range=self.headers["Range"], token=token))
        fault = self._take_fault()
        if fault == "drop":
            return
        if fault == "unavailable":
            self._fail(HTTPStatus.SERVICE_UNAVAILABLE, "")
        elif match := RESOLVE.fullmatch(path):
            self._resolve(match, fault)
        elif match := MODEL_INFO.fullmatch(path):
            self._model_info(match, fault)
        elif (match := PLAIN.fullmatch(path)) and match["name"] in self.hub.files:
            self._send(self.hub.files[match["name"]], {}, fault)
        else:
            self._fail(HTTPStatus.NOT_FOUND, "")

    def _take_fault(self) -> Fault | None:
        for index, (method, _) in enumerate(self.hub.faults):
            if method == self.command:
                return self.hub.faults.pop(index)[1]
        return None

    def _resolve(self, match: re.Match[str], fault: Fault | None) -> None:
        repo = self._open_repo(match, contents=True)
        if repo is None:
            return
        content = repo.files.get(match["name"])
        if content is None:
            self._fail(HTTPStatus.NOT_FOUND, "EntryNotFound", {"X-Repo-Commit": repo.commit})
            return
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"ETag": etag, "X-Linked-ETag": etag, "X-Linked-Size": str(len(content))}
        self._send(content, {**headers, "X-Repo-Commit": repo.commit}, fault)

    def _model_info(self, match: re.Match[str], fault: Fault | None) -> None:
        repo = self._open_repo(match, contents=False)
        if repo is not None:
            self._send(json.dumps(repo.info(match["repo"])).encode(), {"Content-Type": "application/json"}, fault)

    def _open_repo(self, match: re.Match[str], *, contents: bool) -> Repo | None:
        repo = self.hub.repos.get(match["repo"])
        if repo is None:
            self._fail(HTTPStatus.NOT_FOUND, "RepoNotFound")
        elif contents and repo.gated and self.headers["Authorization"] is None:
            self._fail(HTTPStatus.UNAUTHORIZED, "GatedRepo")
        elif not repo.has_revision(match["revision"]):
            self._fail(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        else:
            return repo
        return None

    def _fail(self, status: HTTPStatus, code: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"X-Error-Code": code, "Content-Length": "0", **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def _send(self, content: bytes, headers: Mapping[str, str], fault: Fault | None) -> None:
        start, stop = _byte_range(self.headers["Range"], len(content))
        partial = stop - start < len(content)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        lengths = {"Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
        if partial:
            lengths["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        for key, value in {**lengths, **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(_spoil(content[start:stop], fault))


def _byte_range(header: str | None, size: int) -> tuple[int, int]:
    """Return start and stop of `Range: bytes=first-[last]`, or of the whole content."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if match is None:
        return 0, size
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    return int(match[1]), last + 1


def _spoil(body: bytes, fault: Fault | None) -> bytes:
    if fault == "truncate":
        return body[: len(body) // 2]
    if fault == "corrupt":
        return bytes(byte ^ 0xFF for byte in body)
    return body


def client_environment(endpoint: str, home: Path) -> dict[str, str]:
    """Return the variables that point a process at the server and keep it away from the user's caches and tokens."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_CACHE": str(home / "hf" / "hub"),
        "HF_TOKEN_PATH": str(home / "hf" / "token"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TORCH_HOME": str(home / "torch"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Yield an empty local Hub; this process, and those it starts, take it for the real one, with empty caches."""
    import huggingface_hub
    from huggingface_hub import constants

    with HubServer() as server:
        environment = client_environment(server.endpoint, tmp_path_factory.mktemp("hub"))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        # The client reads its environment once, on import, which may lie behind us; it looks its settings up in
        # this module at every call.
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HOME"):
            monkeypatch.setattr(constants, name, environment[name])
        # The shared session keeps the proxy settings it was made with.
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()
