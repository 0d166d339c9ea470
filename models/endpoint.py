"""Black boxes behind HTTP: images go out as JSON, scores or decisions come back."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image
from urllib3.exceptions import HTTPError, ReadTimeoutError

from robustbench_med.errors import UserError
from robustbench_med.formats import json_file
from robustbench_med.formats.limits import limit
from robustbench_med.models.black_box import FaultyAnswerError, Images
from robustbench_med.models.contracts import Contract
from robustbench_med.naming import canonical_hash

PLACE = re.compile(r"\$\{(\w+)\}")


class Endpoint:
    """An HTTP endpoint under a contract.

    Args:
        url: that images are posted to.
        contract: what it takes and gives.

    Raises:
        UserError: an address that is none, or that holds a password; a header that cannot be sent,
            or names an environment variable which is not set.
    """

    kept = True

    def __init__(self, url: str, contract: Contract) -> None:
        checked(url)
        self.url, self.contract = url, contract
        self.name, self.gives, self.outputs = contract.name, contract.gives, contract.outputs
        self.batch_size, self.retries = contract.batch_size, contract.retries
        self.note, self.last = contract.note, 0.0
        self.session = requests.Session()
        self.session.headers.update({key: filled(value) for key, value in contract.headers.items()})

    def encoded(self, modalities: Sequence[Images]) -> list[Images]:
        """As the contract says."""
        return [self.contract.encoded(m) for m in modalities]

    def ask(self, sent: Sequence[Images], names: Sequence[str], tasks: Sequence[str]) -> list[Any]:
        """One request."""
        body: dict[str, Any] = json.loads(json.dumps(self.contract.also))
        for name, images in zip(names, sent, strict=True):
            put(body, self.contract.images.get(name, name), self._written(images))
        if self.contract.rate is not None:
            time.sleep(max(0.0, self.last + 1 / self.contract.rate - time.monotonic()))
            self.last = time.monotonic()
        answer = self._posted(json.dumps(body))
        return [found(answer, self.contract.answers.get(task, task)) for task in tasks]

    def class_of(self, decision: Any, task: str) -> int:
        """A class by its name or number."""
        return self.contract.class_of(decision, task)

    def identity(self) -> dict[str, str]:
        """The contract, but for what no answer depends on, stands for it."""
        return {"weights_sha256": canonical_hash(self.contract.identity(), 1), "source_sha256": ""}

    def _written(self, images: Images) -> Any:
        """Images in JSON: raw numbers in base64 with their shape and type, or a PNG each."""
        if self.contract.encoding != "png":
            data = images.astype(images.dtype.newbyteorder("<")).tobytes()
            return {
                "shape": list(images.shape),
                "dtype": str(images.dtype),
                "data": base64.b64encode(data).decode(),
            }
        return [base64.b64encode(png(image)).decode() for image in images]

    def _posted(self, body: str) -> Any:
        """The JSON that comes back; FaultyAnswerError for anything else."""
        try:
            with self.session.post(
                self.url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=self.contract.timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                deadline = time.monotonic() + self.contract.timeout
                if response.status_code != 200:
                    raise FaultyAnswerError(f"{self.url} answered {response.status_code}")
                data = bytearray()
                while part := response.raw.read1(1 << 16, decode_content=True):  # what is there
                    data += part
                    if len(data) > limit("text_bytes"):
                        raise FaultyAnswerError(f"{self.url} answered without end")
                    if time.monotonic() > deadline:
                        raise FaultyAnswerError(f"{self.url} did not end its answer in time")
        except (requests.RequestException, HTTPError) as error:
            late = isinstance(error, requests.Timeout | ReadTimeoutError)
            reason = "no answer in time" if late else error
            raise FaultyAnswerError(f"{self.url}: {reason}") from error
        try:
            return json_file.value_of(data.decode())
        except (ValueError, RecursionError) as error:
            raise FaultyAnswerError(f"{self.url} answered no JSON: {error}") from error


def png(image: Images) -> bytes:
    """(H, W), (H, W, 3) or (C, H, W) uint8 as a PNG."""
    planes = image.transpose(1, 2, 0) if image.ndim == 3 and image.shape[0] in (1, 3) else image
    planes = planes[..., 0] if planes.ndim == 3 and planes.shape[-1] == 1 else planes
    file = io.BytesIO()
    try:
        Image.fromarray(planes).save(file, "PNG")
    except (TypeError, OSError) as error:
        raise UserError(f"an image {image.shape} is no PNG; encoding: uint8 sends it") from error
    return file.getvalue()


def put(body: dict[str, Any], field: str, value: Any) -> None:
    """Sets a field, whose folders are parted by dots; UserError where something is in its place."""
    *folders, last = field.split(".")
    for folder in folders:
        body = body.setdefault(folder, {})
        if not isinstance(body, dict):
            break
    if not isinstance(body, dict) or last in body:
        raise UserError(f"the contract puts several things into the field {field} of a request")
    body[last] = value


def found(answer: Any, field: str) -> Any:
    """The value of a field, whose folders are parted by dots; of a list the field of each."""
    parts = field.split(".")
    for i, part in enumerate(parts):
        if isinstance(answer, list):
            return [found(each, ".".join(parts[i:])) for each in answer]
        if not isinstance(answer, Mapping) or part not in answer:
            raise FaultyAnswerError(f"an answer without the field {field}")
        answer = answer[part]
    return answer


def checked(url: str) -> None:
    """Refuses (UserError) what is no address, and one that records would give a password away
    with.
    """
    try:
        parts = urlsplit(url)
        named, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"{url} is no address: {error}") from error
    if "@" in parts.netloc:
        raise UserError(
            "the address holds a name or password, which records would show; put it into the"
            " contract's headers (Authorization: 'Basic ${TOKEN}')"
        )
    if not named:
        raise UserError(f"{url} is no address: it names no host")


def filled(value: str) -> str:
    """A header's text, `${NAME}` replaced by what the environment has."""
    for name in PLACE.findall(value):
        if name not in os.environ:
            raise UserError(f"the contract's headers name ${{{name}}}, which is not set")
    text = PLACE.sub(lambda place: os.environ[place[1]], value)
    if not (text.isascii() and text.isprintable()):
        raise UserError("the contract's headers hold what no header takes: printable ASCII alone")
    return text
