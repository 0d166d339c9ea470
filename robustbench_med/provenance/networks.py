"""The identity of a network that is there as an object: its weights, and everything else in it."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustbench_med.errors import UserError
from robustbench_med.provenance import code


class Identity(NamedTuple):
    """What a network is.

    Attributes:
        weights_sha256: of its parameters and buffers, by name.
        source_sha256: of all that it is made of: the source of its classes and of the user's
            modules beside them, plain attributes of every submodule, hooks, captured values; or of
            the user's version in place of that.
        revisions: of medrobust's files in it, by name.
    """

    weights_sha256: str
    source_sha256: str
    revisions: dict[str, int]


def identity_of(network: nn.Module, name: str, version: str | None = None) -> Identity:
    """What a network is; the same in every process.

    Args:
        network: in the mode in which it is used: which submodules train is part of it.
        name: what an error calls it.
        version: the user's word for all but the weights, in place of what can be seen.

    Raises:
        UserError: some of it cannot be seen and there is no version, or weights that are no plain
            tensors.
    """
    weights, what = weights_of(network, name), f"model {name!r}"
    if version is not None:
        told = hashlib.sha256(f"version {version}".encode()).hexdigest()
        return Identity(weights, told, {})
    source = code.code_of(network, what) or ""
    return Identity(weights, source, code.revisions(network, what))


def weights_of(network: nn.Module, name: str) -> str:
    """sha256 of the parameters and buffers of a network, those that are in no state_dict among
    them.
    """
    sha256 = hashlib.sha256()
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for key, tensor in sorted(tensors.items()):
        sha256.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(_bytes_of(tensor, f"model {name!r}: {key}"))
    return sha256.hexdigest()


def _bytes_of(tensor: Tensor, what: str) -> bytes:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise UserError(f"{what} is sparse, quantised or without numbers; take plain tensors")
    plain = tensor.detach().cpu().contiguous().flatten()
    return plain.view(torch.uint8).numpy().tobytes()
