"""TIFF files of kinds that Pillow does not write, built by hand."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

REDUCED = (254, 4, (1,))
_CODES = {1: "B", 3: "H", 4: "I", 7: "B"}
Entry = tuple[int, int, Sequence[int]]


def tiff(
    path: Path, samples: NDArray[Any], photometric: int, *more: Entry, planar: bool = False
) -> Path:
    """An uncompressed TIFF of one page; `more` entries (tag, type, values) win over the usual."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    planes = [samples[..., n] for n in range(channels)] if planar else [samples]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    strips = [plane.astype(samples.dtype.newbyteorder("<")).tobytes() for plane in planes]
    offsets = [8 + sum(map(len, strips[:n])) for n in range(len(strips))]
    entries: list[Entry] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [8 * samples.itemsize] * channels),
        (259, 3, [1]),
        (262, 3, [photometric]),
        (273, 4, offsets),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(strip) for strip in strips]),
        (284, 3, [2 if planar else 1]),
        (339, 3, [kind] * channels),
        *more,
    ]
    content = b"".join(strips)
    content += bytes(len(content) % 2)
    at = 8 + len(content)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", at) + content + _directory(dict(_by_tag(entries)), at)
    )
    return path


def ramp(dtype: str, low: float, high: float) -> NDArray[Any]:
    """Grey from `low` to `high`, row by row, of 64 by 48 pixels."""
    return np.linspace(low, high, 64 * 48).reshape(48, 64).astype(dtype)


def _by_tag(entries: list[Entry]) -> list[tuple[int, Entry]]:
    return [(entry[0], entry) for entry in entries]


def _directory(entries: dict[int, Entry], at: int) -> bytes:
    far = at + 2 + 12 * len(entries) + 4
    head, tail = struct.pack("<H", len(entries)), b""
    for tag in sorted(entries):
        _, kind, values = entries[tag]
        held = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
        head += struct.pack("<HHI", tag, kind, len(values))
        if len(held) <= 4:
            head += held.ljust(4, b"\0")
        else:
            head += struct.pack("<I", far + len(tail))
            tail += held + bytes(len(held) % 2)
    return head + bytes(4) + tail
