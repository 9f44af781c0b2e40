"""Encodings to try for each format, best first, and the search for the best that fits."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyvips

from tasks.images import vips
from tasks.images.indexed import Palette, palette_of
from tasks.images.vips import Format, Picture

# Metadata of more than this share of the allowed bytes would cost visible quality.
METADATA_SHARE = 0.2
# The first guess: near the quality at which a camera's JPEG has half its bytes.
FIRST_QUALITY = 75
# Guesses by interpolation, before the search continues by bisection. Four are normal.
GUESSES = 6

# The defaults of libaom and libwebp. The next level doubles the time for some 2 % of the bytes.
AVIF_EFFORT = 4
WEBP_EFFORT = 4
# Above 4, quantising 12 MP takes most of a minute.
PALETTE_EFFORT = 4

KEEP_ALL = 63
KEEP_EXIF_AND_ICC = 1 | 8

_ANY_QUALITY = range(1, 101)
_METADATA = ("exif-", "iptc-", "xmp-", "photoshop-", "png-comment", "gif-comment", "jpeg-thumb")


@dataclass(frozen=True)
class Encoding:
    """One way to write a file: the saver's options, and the quality to report."""

    options: Mapping[str, object]
    quality: int | None = None
    shades_bits: int | None = None
    """Bits per shade, where a grey picture is reduced to fewer shades."""


@dataclass(frozen=True)
class Stage:
    """Encodings of one kind, smallest first."""

    encodings: Sequence[Encoding]
    metadata: bool = True
    # Gives each encoding a position on which log(bytes) is nearly linear.
    position: Callable[[int], float] = float
    to_8_bit: bool = False
    palette: Palette | None = None
    """The exact colours of a picture that has at most 256."""

    @property
    def is_quantised(self) -> bool:
        """Whether libvips reduces the picture to a palette that it chooses."""
        return any(encoding.options.get("palette") for encoding in self.encodings)


def search(measure: Callable[[int], int], budget: int, stage: Stage) -> int | None:
    """Run `highest_fitting` on the encodings of a stage."""
    count = len(stage.encodings)
    start = FIRST_QUALITY - 1 if count == len(_ANY_QUALITY) else None
    return highest_fitting(measure, budget, count, stage.position, start)


def highest_fitting(
    measure: Callable[[int], int],
    budget: int,
    count: int,
    position: Callable[[int], float] = float,
    start: int | None = None,
) -> int | None:
    """The highest of `count` rungs whose size is within `budget`; None where no rung fits.

    `measure` gives the size of a rung in bytes. It is called at most once for a rung, and for few
    rungs: interpolation of log(size) over `position`, then bisection. The returned rung was
    measured and fits, and the next higher one was measured and does not.
    """
    low, high = -1, count
    sizes: dict[int, int] = {}
    guess = (count - 1) // 2 if start is None else start
    while True:
        sizes[guess] = measure(guess)
        if sizes[guess] <= budget:
            low = guess
        else:
            high = guess
        if high - low == 1:
            return low if low >= 0 else None
        guess = (low + high) // 2
        if len(sizes) < GUESSES:
            guess = _interpolate(sizes, budget, low, high, position) or guess


def _interpolate(
    sizes: Mapping[int, int], budget: int, low: int, high: int, position: Callable[[int], float]
) -> int | None:
    nearest = sorted(sizes, key=lambda rung: abs(math.log(sizes[rung] / budget)))[:2]
    if len(nearest) < 2 or sizes[nearest[0]] == sizes[nearest[1]]:
        return None
    a, b = nearest
    slope = (math.log(sizes[a] / sizes[b])) / (position(a) - position(b))
    if slope <= 0:
        return None
    wanted = position(a) - math.log(sizes[a] / budget) / slope
    # Strictly between the known bounds: a guess outside would give no information.
    rungs = range(low + 1, high)
    return next((rung for rung in reversed(rungs) if position(rung) <= wanted), rungs[0])


def jpeg_position(rung: int) -> float:
    """Position of a JPEG quality: sizes follow a power of the IJG library's quantiser scale."""
    quality = rung + 1
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return -math.log(max(scale, 1))


def stages(picture: Picture, budget: int, keep_metadata: bool = True) -> Iterator[Stage]:
    """Yield the stages for a picture, best first: the first with a fitting encoding is used."""
    kinds = {
        "jpeg": _jpeg,
        "png": _png,
        "webp": _webp,
        "avif": _avif,
        "tiff": _tiff,
        "gif": _gif,
    }[picture.format](picture)
    size = metadata_bytes(picture.header)
    for stage in kinds:
        if keep_metadata and size <= METADATA_SHARE * budget:
            yield stage
        if size or not keep_metadata:
            yield replace(stage, metadata=False)


def without_metadata(image: pyvips.Image) -> tuple[pyvips.Image, int]:
    """The image with only its orientation and ICC profile, and the savers' option `keep` for it."""
    image = image.copy()
    for field in image.get_fields():
        if field.startswith(_METADATA):
            image.remove(field)
    # With EXIF kept, libvips writes a minimal block that carries the orientation.
    return image, KEEP_EXIF_AND_ICC if vips.number(image, "orientation", 1) != 1 else 8


def metadata_bytes(image: pyvips.Image) -> int:
    """Size of the metadata that `without_metadata` drops, in bytes."""
    blobs = (f for f in image.get_fields() if f.startswith(_METADATA) and f.endswith("-data"))
    return sum(len(value) for f in blobs if isinstance(value := vips.metadata(image, f), bytes))


def default_encoding(format: Format, picture: Picture) -> Encoding:
    """The encoding of a conversion: lossless, or without loss that is visible in normal viewing."""
    return {
        # The usual values for publishing: JPEG 85 (libjpeg-turbo's and web.dev's "high"), and
        # the qualities of WebP and AVIF that are equal to it in SSIM comparisons.
        "jpeg": Encoding(_jpeg_options(picture, 85), 85),
        "webp": Encoding({"Q": 82, "effort": WEBP_EFFORT}, 82),
        "avif": Encoding(
            {"Q": 65, "effort": AVIF_EFFORT, "compression": "av1", "bitdepth": _avif_bits(picture)},
            65,
        ),
        "png": Encoding({"compression": 6, "filter": "all"}),
        "tiff": Encoding({"compression": "deflate", "predictor": "horizontal", "bigtiff": True}),
    }[format]


def _avif_bits(picture: Picture) -> int:
    """Bits of a sample in AVIF, which holds at most 12."""
    if picture.header.format == "uchar":
        return 8
    return min(12, vips.number(picture.header, "bits-per-sample", 12))


def _qualities(options: Callable[[int], Mapping[str, object]]) -> list[Encoding]:
    return [Encoding(options(quality), quality) for quality in _ANY_QUALITY]


def _jpeg_options(picture: Picture, quality: int) -> Mapping[str, object]:
    # Where the original has subsampled colour, full colour resolution would waste bytes.
    subsampled = vips.text(picture.header, "jpeg-chroma-subsample") == "4:2:0"
    return {
        "Q": quality,
        "subsample_mode": "on" if subsampled else "auto",
        # Optimal Huffman tables need all coefficients in memory: not for streamed pictures.
        "optimize_coding": picture.decoded_bytes <= vips.DECODED_IN_MEMORY,
    }


def _jpeg(picture: Picture) -> list[Stage]:
    return [Stage(_qualities(lambda q: _jpeg_options(picture, q)), position=jpeg_position)]


def _webp(_: Picture) -> list[Stage]:
    return [Stage(_qualities(lambda q: {"Q": q, "effort": WEBP_EFFORT}), True)]


def _avif(picture: Picture) -> list[Stage]:
    common = {"compression": "av1", "effort": AVIF_EFFORT, "bitdepth": _avif_bits(picture)}
    return [Stage(_qualities(lambda q: {"Q": q, **common}), True)]


def _png(picture: Picture) -> list[Stage]:
    header = picture.header
    bits = vips.number(header, "bits-per-sample", 8)
    lossless: dict[str, object] = {"compression": 9}
    if bits < 8 and header.bands == 1:
        lossless["bitdepth"] = bits
    exact = [
        # Prediction suits photographs, no prediction suits drawings: both are tried.
        Stage([Encoding({**lossless, "filter": filter})])
        for filter in ("all", "none")
    ]
    if bits == 16:
        exact.append(Stage([Encoding({**lossless, "filter": "all"})], to_8_bit=True))
    if picture.pixels is not None and (palette := palette_of(picture.pixels)):
        exact.insert(0, Stage([Encoding(palette.options)], palette=palette))
    if picture.decoded_bytes > vips.DECODED_BY_WHOLE_CODER:
        return exact  # the quantiser holds the whole picture
    if header.bands == 1 and vips.metadata(header, "icc-profile-data"):
        # A palette holds colours, which a profile of grey does not describe.
        options = {**lossless, "filter": "none"}
        shades = [Encoding({**options, "bitdepth": b}, shades_bits=b) for b in (1, 2, 4)]
        return [*exact, Stage(shades, to_8_bit=bits == 16)]
    palettes = ((1, 0.0), (2, 0.0), (4, 0.0), (4, 0.5), (4, 1.0), (8, 0.0), (8, 0.5), (8, 1.0))
    options = {"palette": True, "compression": 9, "effort": PALETTE_EFFORT}
    rungs = [Encoding({**options, "bitdepth": b, "dither": d}) for b, d in palettes]
    return [*exact, Stage(rungs, to_8_bit=bits == 16)]


def _gif(_: Picture) -> list[Stage]:
    # Bits per pixel, dither, and the largest change between frames (0 to 255) that is dropped.
    rungs = (
        (1, 0.0, 32),
        (2, 0.0, 32),
        (3, 0.0, 24),
        (4, 0.0, 16),
        (5, 0.0, 16),
        (5, 0.5, 8),
        (6, 0.5, 8),
        (6, 1.0, 4),
        (7, 1.0, 4),
        (8, 1.0, 4),
        (8, 1.0, 0),
    )
    options = [{"bitdepth": b, "dither": d, "interframe_maxerror": e} for b, d, e in rungs]
    return [Stage([Encoding(each) for each in options])]


def _tiff(picture: Picture) -> list[Stage]:
    header = picture.header
    whole = header.format in ("uchar", "ushort")
    options: dict[str, object] = {
        "compression": "deflate",
        "predictor": "horizontal" if whole else "none",
        "bigtiff": picture.decoded_bytes > 2**31,
    }
    result = [Stage([Encoding(options)])]
    if vips.number(header, "bits-per-sample", 8) == 1 and header.bands == 1:
        bilevel = {"compression": "ccittfax4", "bitdepth": 1}
        return [Stage([Encoding(bilevel)])]
    if header.format == "uchar" and header.bands in (1, 3):
        jpeg = {"compression": "jpeg", "bigtiff": options["bigtiff"]}
        result.append(Stage(_qualities(lambda q: {**jpeg, "Q": q}), position=jpeg_position))
    return result
