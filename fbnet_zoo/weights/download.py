"""From the source of a checkpoint to a verified file: beside a definition, or through caches that other tools share.

`hf://` addresses go through `huggingface_hub` (its cache, token, progress bar and offline mode). Files of URLs lie in
`torch.hub`'s folder of checkpoints under names of our own, a digest of the URL and the file's name. Neither client
compares sizes or digests, so that is done here: the announced size after a download, what is known of the file on
every use.
"""

import hashlib
import re
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from fbnet_zoo.atomic import sync
from fbnet_zoo.errors import InputError, WeightsError, WeightsUnavailableError

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files of a repository that are looked for when an address names none, best first."""

_CARD = "README.md"
_HUB_ADDRESS = re.compile(r"hf://(?P<repo>[^/\s]+/[^/\s]+)(?:/(?P<file>\S+))?")
_PROBE_SECONDS = 5
"""How long a server may take to describe a file; the Hub's client would try for 23 s to download from no network."""


def is_address(text: str) -> bool:
    """Tell whether `text` is meant as an address rather than a path.

    >>> is_address("hf://timm/fbnetc_100.rmsp_in1k"), is_address("weights/model.pth")
    (True, False)
    """
    return "://" in text


def fetch(address: str, *, size: int | None = None, sha256: str | None = None) -> Path:
    """Return the file at an address, from a cache if it is there.

    Args:
        address: `hf://owner/repository[/file]` or the URL of a file.
        size: bytes that it must have.
        sha256: digest that it must have, in hexadecimal; the beginning of one is compared as such.

    Raises:
        WeightsUnavailableError: it is not in the cache and cannot be downloaded.
        WeightsError: its size or digest is wrong.
        InputError: the address is none.
    """
    if address.startswith("hf://"):
        repo, file = _parse(address)
        path = _from_hub(repo, (file,) if file else HUB_FILES)
        _verify(path, size, sha256 or _digest_in_name(path), address, _delete(path))
        return path
    if urlsplit(address).scheme not in {"http", "https"}:
        raise InputError(f"{address!r} is no address of weights; expected hf://owner/repository[/file] or https://…")
    return _from_url(address, size, sha256)


def beside(name: str, folder: Path, *, size: int | None = None, sha256: str | None = None) -> Path:
    """Return a file that lies in the folder of a definition.

    Args:
        name: of the file, without any folder.
        folder: that it lies in.
        size: bytes that it must have.
        sha256: digest that it must have, in hexadecimal; the beginning of one is compared as such.

    Raises:
        WeightsUnavailableError: there is no such file.
        WeightsError: it lies elsewhere, by a link or by its name; or its size or digest is wrong.
    """
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise WeightsError(f"the file {path} lies outside {folder}; expected one in that folder itself: copy it there")
    if not path.is_file():
        raise WeightsUnavailableError(f"there is no file {path}, which a definition names; put it there")
    _verify(path, size, sha256, str(path), "it is damaged or another one: put there what the definition means")
    return path


def hub_license(address: str) -> str | None:
    """Return the licence that the card of a downloaded repository states; `None` when it states none.

    The card is downloaded along with the first file, so this needs no network.
    """
    import yaml
    from huggingface_hub import metadata_load

    card = _cached(_parse(address)[0], _CARD)
    try:
        said = (metadata_load(card) or {}).get("license") if card else None
    except (ValueError, yaml.YAMLError):  # a broken card: the weights are none the worse
        return None
    return said if isinstance(said, str) else None


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
    return f"it is damaged or another one: delete {path.resolve()} and try again"


def _parse(address: str) -> tuple[str, str | None]:
    match = _HUB_ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(f"{address!r} is no address of the Hub; expected hf://owner/repository[/file]")
    return match["repo"], match["file"]


def _digest_in_name(path: Path) -> str | None:
    """Return the digest after which the Hub's client names the cached content of large files."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _cached(repo: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file)
    return Path(found) if isinstance(found, str) else None


def _from_hub(repo: str, files: Sequence[str]) -> Path:
    for file in files:
        if (path := _cached(repo, file)) is not None:
            return path
    try:
        return _download_from_hub(repo, files)
    except WeightsError:
        raise
    except Exception as error:  # the client lets pass what its transport raises, which has no common base
        _explain(repo, error)


def _download_from_hub(repo: str, files: Sequence[str]) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(repo, timeout=_PROBE_SECONDS)
    there = {sibling.rfilename for sibling in info.siblings or ()}
    wanted = next((file for file in files if file in there), None)
    if wanted is None:
        raise WeightsUnavailableError(f"hf://{repo} has no {' and no '.join(files)}; name the file: hf://{repo}/<file>")
    if _CARD in there:
        hf_hub_download(repo, _CARD)
    return Path(hf_hub_download(repo, wanted))


def _explain(repo: str, error: Exception) -> NoReturn:
    """Turn whatever the Hub's client raised into one sentence with a way out."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    match error:
        case OfflineModeIsEnabled():
            why = "is not in the cache, and HF_HUB_OFFLINE forbids to download it; unset it, or give the path of a file"
        case GatedRepoError():
            why = "wants its terms to be accepted first; do so on its page of the Hub, then log in with 'hf auth login'"
        case RepositoryNotFoundError():
            why = "does not exist, or is private; check the name, or log in with 'hf auth login'"
        case HfHubHTTPError(response=response) if response is not None:
            why = f"cannot be downloaded, the Hub answers {response.status_code}; try again later"
        case _:
            why = f"cannot be downloaded ({_reason(error)}); check the network, or give the path of a file"
    raise WeightsUnavailableError(f"hf://{repo} {why}") from error


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0].removesuffix(": ")


def _from_url(url: str, size: int | None, sha256: str | None) -> Path:
    """Download to a name of its own: published files of different networks are all called `model.pth`."""
    from torch import hub

    name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{Path(urlsplit(url).path).name}"
    path = Path(hub.get_dir()) / "checkpoints" / name
    if path.exists():
        _verify(path, size, sha256, url, _delete(path))
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f"{name}.") as folder:
            partial, expected = Path(folder) / name, size or _announced_size(url)
            hub.download_url_to_file(url, str(partial), progress=sys.stderr.isatty())
            _verify(partial, expected, sha256, url, "it is damaged or another one: try again")
            sync(partial)
            partial.replace(path)
    except HTTPError as error:
        error.close()  # it holds the connection
        cure = "check the address" if error.code == HTTPStatus.NOT_FOUND else "try again later"
        raise WeightsUnavailableError(f"{url} cannot be downloaded, the server answers {error.code}; {cure}") from error
    except (OSError, HTTPException) as error:
        raise WeightsUnavailableError(
            f"{url} cannot be downloaded ({_reason(error)}); check the network, or give the path of a file"
        ) from error
    return path


def _announced_size(url: str) -> int | None:
    """Ask how many bytes a file has; without a network this ends soon, while torch.hub would wait without limit."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_PROBE_SECONDS) as answer:  # noqa: S310 - http(s), see `fetch`
            length = answer.headers.get("Content-Length", "")
    except HTTPError as error:  # not every server answers this; what is wrong will show
        error.close()
        return None
    return int(length) or None if length.isdigit() else None
