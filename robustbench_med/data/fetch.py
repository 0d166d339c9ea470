"""Downloads: checked against the published md5, resumed where they stopped, never half in place."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from robustbench_med.data.listing import Files
from robustbench_med.errors import UserError
from robustbench_med.formats.limits import limit
from robustbench_med.owners.lock import Lock
from robustbench_med.paths import home
from robustbench_med.progress import Tick
from robustbench_med.provenance.hashes import hashes_of

ATTEMPTS = 5
PIECE = 1 << 16
MIB = 1 << 20


def download(
    url: str,
    target: Path,
    digest: str,
    files: Files,
    *,
    algorithm: Literal["md5", "sha256"] = "md5",
) -> Path:
    """Gets a file with pooch; a partial download lies beside the target and is continued, even by a
    later command.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY).

    Args:
        digest: published hash of the file, by `algorithm`.

    Raises:
        UserError: no connection, an error of the server, another hash, a full disk.
    """
    lock = Lock(target.with_name(f"{target.name}.lock"))
    with lock.waited(files.say, f"the download of {target.name}"):
        if target.is_file():  # another process got it meanwhile
            return target
        return _downloaded(url, target, f"{algorithm}:{digest}", files)


def _downloaded(url: str, target: Path, known_hash: str, files: Files) -> Path:
    import pooch

    partial = target.with_name(f"{target.name}.part")
    files.say(f"downloading {target.name} from {url}")
    try:
        with files.progress(f"{target.name} (MiB)") as tick:
            pooch.retrieve(
                url,
                known_hash,
                fname=target.name,
                path=target.parent,
                downloader=Resuming(partial, tick),
            )
    except UserError:
        raise
    except OSError as error:  # requests' errors are OSErrors too
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"no space for {target.name} in {target.parent}: {error.strerror}; free some and"
                " try again"
            ) from error
        raise UserError(
            f"cannot download {target.name} from {url} ({_reason(error)}); try again to continue,"
            f" or put the file into {target.parent} or name its folder with --data-root"
        ) from error
    except ValueError as error:  # pooch: the hash
        algorithm, _, digest = known_hash.partition(":")
        raise UserError(
            f"{url} is not the published file: its {algorithm} is not {digest}; nothing was kept"
        ) from error
    return target


class Resuming:
    """A downloader for pooch that continues a partial file with a Range request, also when the
    connection is cut under way.
    """

    def __init__(self, partial: Path, tick: Tick) -> None:
        self.partial, self.tick = partial, tick

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests

        for attempt in range(ATTEMPTS):
            before = self._size()
            try:
                self._continue(url)
                break
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ):
                if attempt == ATTEMPTS - 1 or self._size() == before == 0:
                    raise
                time.sleep(min(0.1 * 2**attempt, 5))
        self.partial.replace(output_file)

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _continue(self, url: str) -> None:
        """One request for what is still missing."""
        import requests

        start = self._size()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, stream=True, timeout=30, headers=headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if int(response.headers.get("Content-Range", "*/-1").rpartition("/")[2]) == start:
                    return  # it was complete
                self.partial.unlink()
                raise requests.ConnectionError("the partial file does not belong to this download")
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                start = 0  # the server knows no ranges
            missing = int(response.headers.get("Content-Length", 0))
            check_space(self.partial.parent, missing)
            with self.partial.open("ab" if start else "wb") as file:
                # as sent, whatever encoding the server names: packed bytes may be a bomb
                for piece in _pieces(response):
                    file.write(piece)
                    if file.tell() > (start + missing if missing else limit("download_bytes")):
                        raise UserError(f"{url} sends more than it said; nothing more is taken")
                    self.tick(file.tell() // MIB, max((start + missing) // MIB, 1), "")
                end = file.tell()
            if missing and end < start + missing:  # requests takes a closed connection for the end
                raise requests.ConnectionError(f"cut after {end} of {start + missing} bytes")


def _pieces(response: Any) -> Iterator[bytes]:
    import requests
    from urllib3.exceptions import HTTPError

    try:
        yield from response.raw.stream(PIECE, decode_content=False)
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


def check_space(folder: Path, needed: int) -> None:
    """Refuses (UserError) what does not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / MIB:,.0f} MiB free, {needed / MIB:,.0f} are needed; free some"
            " space, or set MEDROBUST_HOME"
        )


def md5_of(path: Path) -> str:
    """md5 of a file, remembered while the file is the same; one that cannot be read is a
    UserError.
    """
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    (md5,) = hashes_of([path], home() / "cache" / "md5" / f"{name}.json", algorithm="md5")
    if not md5:
        raise UserError(
            f"cannot read {path}; give yourself the right to, or delete it to download it again"
        )
    return md5


def _reason(error: OSError) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    return os.strerror(error.errno) if error.errno else type(error).__name__
