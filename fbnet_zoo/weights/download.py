"""From the source of a checkpoint to a verified file, through caches that other tools share.

`hf://` addresses go through `huggingface_hub` (its cache, token, progress bar and offline mode). Files of URLs are in
`torch.hub`'s checkpoint folder, named by a digest of the URL and the name of the file. What is downloaded is verified
before it is kept: announced and known sizes, known digests, and the form of a checkpoint; what is cached, on every use.
"""

import hashlib
import re
import zipfile
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn
from urllib.error import HTTPError
from urllib.parse import urlsplit

from fbnet_zoo import _http
from fbnet_zoo.atomic import storing_in, sync
from fbnet_zoo.errors import InputError, WeightsError, WeightsUnavailableError
from fbnet_zoo.folders import temporary
from fbnet_zoo.weights.sources import SAFETENSORS, WeightsSource

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files of a repository to look for when an address names none, in order of preference."""

_CARD = "README.md"
_PROBE_SECONDS = 5
"""Timeout for describing a file; without a network, the Hub's client would try to download for 23 s."""

_START = 16
"""Number of bytes at the start of a file that an error shows."""

_PICKLE = b"\x80"
"""Start of a file of `torch.save` before PyTorch 1.6: a pickle of protocol 2 or later."""


def fetch(source: WeightsSource, *, size: int | None = None, sha256: str | None = None) -> Path:
    """Return the file at an address, from a cache if it is there.

    Args:
        source: an address: its kind is `hub` or `url`.
        size: expected size, bytes.
        sha256: expected digest in hexadecimal, or a prefix of it.

    Raises:
        WeightsUnavailableError: the file is not in the cache and cannot be downloaded.
        WeightsError: the size or the digest is wrong.
        InputError: the disk of the cache is full.
    """
    if source.kind == "url":
        return _from_url(source.text, size, sha256)
    path = _from_hub(source.repository, (source.file,) if source.file else HUB_FILES)
    _verify(path, size, sha256 or _digest_in_name(path), source.text, _delete(path))
    return path


def beside(name: str, folder: Path, *, size: int | None = None, sha256: str | None = None) -> Path:
    """Return a file in the folder of a definition.

    Args:
        name: name of the file, without a folder.
        folder: folder of the definition.
        size: expected size, bytes.
        sha256: expected digest in hexadecimal, or a prefix of it.

    Raises:
        WeightsUnavailableError: there is no such file.
        WeightsError: the name or a link leads outside the folder, or the size or the digest is wrong.
    """
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise WeightsError(f"the file {path} is outside {folder}; copy it to that folder itself")
    if not path.is_file():
        raise WeightsUnavailableError(f"there is no file {path}, which a definition requires; copy it there")
    _verify(path, size, sha256, str(path), "it is damaged or another file: copy the right one there")
    return path


def hub_license(repository: str) -> str | None:
    """Return the license on the card of a downloaded repository; `None` if it names none.

    The card is downloaded with the first file, so this needs no network.
    """
    import yaml
    from huggingface_hub import metadata_load

    card = _cached(repository, _CARD)
    try:
        stated = (metadata_load(card) or {}).get("license") if card else None
    except (ValueError, yaml.YAMLError):  # a broken card says nothing about the weights
        return None
    return stated if isinstance(stated, str) else None


def _verify(path: Path, size: int | None, sha256: str | None, address: str, cure: str) -> None:
    found = path.stat().st_size
    if size is not None and found != size:
        raise WeightsError(f"the file of {address} has {found} bytes, expected {size}; {cure}")
    if sha256 is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256):
        raise WeightsError(f"the file of {address} has the sha256 {digest[: len(sha256)]}, expected {sha256}; {cure}")


def _delete(path: Path) -> str:
    return f"it is damaged or another file: delete {path.resolve()} and try again"


def _digest_in_name(path: Path) -> str | None:
    """Return the digest by which the Hub's client names large files in its cache."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _cached(repo: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file)
    return Path(found) if isinstance(found, str) else None


def _from_hub(repo: str, files: Sequence[str]) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    for file in files:
        if (path := _cached(repo, file)) is not None:
            return path
    try:
        with storing_in(Path(HF_HUB_CACHE)):
            return _download_from_hub(repo, files)
    except (WeightsError, InputError):
        raise
    except Exception as error:  # the client passes on what its transport raises, which has no common base
        _explain(repo, error)


def _download_from_hub(repo: str, files: Sequence[str]) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(repo, timeout=_PROBE_SECONDS)
    there = {sibling.rfilename for sibling in info.siblings or ()}
    wanted = next((file for file in files if file in there), None)
    if wanted is None:
        raise WeightsUnavailableError(f"hf://{repo} has no {' or '.join(files)}; give the file: hf://{repo}/<file>")
    if _CARD in there:
        hf_hub_download(repo, _CARD)
    return Path(hf_hub_download(repo, wanted))


def _explain(repo: str, error: Exception) -> NoReturn:
    """Turn an error of the Hub's client into one sentence with a remedy."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    match error:
        case OfflineModeIsEnabled():
            why = "is not in the cache, and HF_HUB_OFFLINE forbids downloads; unset it, or give the path of a file"
        case GatedRepoError():
            why = "requires accepting its terms; do so on its page on the Hub, then log in with 'hf auth login'"
        case RepositoryNotFoundError():
            why = "does not exist or is private; check the name, or log in with 'hf auth login'"
        case HfHubHTTPError(response=response) if response is not None:
            why = f"cannot be downloaded: the Hub answers {response.status_code}; try again later"
        case _:
            why = _failure(error, "HF_HOME")
    raise WeightsUnavailableError(f"hf://{repo} {why}") from error


def _failure(error: Exception, variable: str) -> str:
    """Return what failed: the download, or its folder, which a variable of the environment names."""
    if isinstance(error, OSError) and error.filename:
        place = f"{error.strerror}: {error.filename}"
        return f"cannot be kept ({place}); choose another folder with the variable {variable}"
    cause = error.__cause__ or error
    reason = f"{type(cause).__name__}: {cause}".splitlines()[0].removesuffix(": ")
    return f"cannot be downloaded ({reason}); check the network, or give the path of a file"


def _from_url(url: str, size: int | None, sha256: str | None) -> Path:
    """Download to a unique name: published files of different networks are all called `model.pth`."""
    from torch import hub

    name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{Path(urlsplit(url).path).name}"
    path = Path(hub.get_dir()) / "checkpoints" / name
    if path.exists():
        _verify(path, size, sha256, url, _delete(path))
        _check_form(path, url, _delete(path))
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with storing_in(path.parent), temporary(path.parent) as folder:
            partial = folder / name
            announced = _http.download(url, partial)
            _verify(partial, size or announced, sha256, url, "it is damaged or another file: try again")
            _check_form(partial, url, "nothing was kept: check the address, and try again")
            sync(partial)
            partial.replace(path)
    except HTTPError as error:
        error.close()  # it holds the connection
        cure = "check the address" if error.code == HTTPStatus.NOT_FOUND else "try again later"
        raise WeightsUnavailableError(f"{url} cannot be downloaded: the server answers {error.code}; {cure}") from error
    except (OSError, HTTPException) as error:
        raise WeightsUnavailableError(f"{url} {_failure(error, 'TORCH_HOME')}") from error
    return path


def _check_form(path: Path, url: str, cure: str) -> None:
    """Check that a file has the form of a checkpoint, as far as is known without reading its values.

    A proxy or a hotel's network may answer with a page; a server may announce no size and stop halfway.

    Raises:
        WeightsError: it is neither a whole safetensors file nor one that `torch.save` writes.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    if path.suffix == SAFETENSORS:
        whole = _is_safetensors(path)
    else:
        whole = zipfile.is_zipfile(path) or start.startswith(_PICKLE)
    if not whole:
        raise WeightsError(f"the file of {url} is not a checkpoint: it begins with {start!r}; {cure}")


def _is_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):  # reads the header and compares it with the size of the file
            return True
    except (SafetensorError, OSError):
        return False
