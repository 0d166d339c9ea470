"""Hypothesis strategies: honest files with something of theirs changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

WORDS = (
    "", " ", "\x00", "\x1b[2J", "\u202e", "\ud800", "=cmd()", "$x$", "[/red]", "../..", "/dev/zero", "x" * 300, "NaN", "1/0", "0x_", "2020-13-45", "{0}",
    "!!binary '@'", "!!int ''", "&a [*a]", "*a", "[" * 150, "{a: " * 150, "9" * 5000, "null", "~", "<<", "phantoms", "4/255", "L2:", "{img!s:>99999999}",
)  # fmt: skip
"""What choked a reader once, or might."""
NUMBERS = (0, -1, 1, 2**31, 2**63, 10**30, 10**400, 1e308, -1e-308, 0.5, float("inf"), float("nan"))
ODD = st.one_of(
    st.sampled_from([None, True, [], {}, [[]], {"": ""}, *WORDS, *NUMBERS]),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
)


@st.composite
def changed(draw: st.DrawFn, trees: Sequence[Any]) -> Any:
    """A tree of lists and mappings of which one to three nodes are others, gone or there twice."""
    tree = json.loads(json.dumps(draw(st.sampled_from(trees))))
    for _ in range(draw(st.integers(1, 3))):
        parent, key = _place(draw, tree)
        if parent is None:
            return draw(ODD)
        kind = draw(st.sampled_from(("other", "other", "gone", "wrapped", "named")))
        if kind == "other":
            parent[key] = draw(ODD)
        elif kind == "wrapped":
            parent[key] = draw(st.sampled_from(([parent[key]], {"x": parent[key]}, [[]] * 3)))
        elif kind == "gone":
            del parent[key]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(WORDS) | st.text(max_size=5))] = parent.pop(key)
    return tree


def _place(draw: st.DrawFn, tree: Any) -> tuple[Any, Any]:
    """A node by its parent and key; None at the root, seldom."""
    parent, key, node = None, None, tree
    while isinstance(node, dict | list) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if parent is not None and draw(st.integers(0, 3)) == 0:
            break
        parent, key = node, draw(st.sampled_from(keys))
        node = parent[key]
    return parent, key


@st.composite
def spoilt(draw: st.DrawFn, files: Sequence[bytes], tokens: Sequence[bytes] = ()) -> bytes:
    """Bytes of which some were overwritten, put in, cut out, repeated or cut off."""
    data = bytearray(draw(st.sampled_from(files)))
    known = [*tokens, b"\x00", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00"]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from((1, 2, 4, 8, 32)))
        piece = draw(st.sampled_from(known) | st.binary(min_size=1, max_size=8))
        kind = draw(st.sampled_from(("over", "over", "in", "out", "twice", "off")))
        if kind == "over":
            data[at : at + len(piece)] = piece
        elif kind == "in":
            data[at:at] = piece
        elif kind == "out":
            del data[at : at + length]
        elif kind == "twice":
            data[at:at] = data[at : at + length] * draw(st.integers(1, 4))
        else:
            del data[at:]
    return bytes(data)


def text_in(files: Sequence[str]) -> st.SearchStrategy[bytes]:
    """Text files that were edited as text, with words that choke readers."""
    return spoilt([file.encode() for file in files], [_bytes(word) for word in WORDS])


def dumped(
    trees: Sequence[Any], dump: Callable[[Any], str] = json.dumps
) -> st.SearchStrategy[bytes]:
    """Changed trees as files."""
    return changed(trees).map(lambda tree: _bytes(dump(tree)))


def sentences(words: Sequence[str]) -> st.SearchStrategy[bytes]:
    """What a user might type: pieces of what is known, and of what is not."""
    piece = st.sampled_from((*words, *WORDS)) | st.text(max_size=4)
    return st.lists(piece, max_size=6).map(lambda pieces: _bytes("".join(pieces)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
