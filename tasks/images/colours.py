"""Converts pixels to colours and a depth that a format can hold, and reports the losses."""

import math

import pyvips

from tasks.contracts import ImageFormat
from tasks.images import vips
from tasks.images.signatures import Unreadable

WHITE = [255.0, 255.0, 255.0]
_DEEP = 65_535
_SHOWN = ("srgb", "rgb16", "b-w", "grey16")
_CONVERTED = ("scrgb", "lab", "labs", "labq", "lch", "hsv", "xyz")
_GREY = ("b-w", "grey16")
# Most bits of a sample that a format holds; TIFF holds any.
_DEPTHS = {"jpeg": 8, "webp": 8, "avif": 12, "png": 16}
_SAMPLES = {
    "char": "signed 8-bit",
    "short": "signed 16-bit",
    "int": "signed 32-bit",
    "uint": "32-bit",
}
# Change of transparency, of 255, that nobody sees.
_INVISIBLE = 32
# Float samples may lie slightly outside of 0 to 1, by rounding.
_TOLERANCE = 1e-3


def presentable(image: pyvips.Image, format: ImageFormat) -> tuple[pyvips.Image, list[str]]:
    """Convert an image so that every viewer of `format` shows it the same; list what is left out.

    Raises Unreadable where the values of black and white are not known.
    """
    left_out: list[str] = []
    if image.interpretation == "cmyk":
        # For files without a profile, libvips has a generic CMYK profile.
        deep = image.format == "ushort"
        image = image.icc_transform(
            "srgb", embedded=True, input_profile="cmyk", depth=16 if deep else 8
        )
        left_out.append("the inks (CMYK became sRGB)")
    if format == "tiff":
        return image, left_out
    if image.interpretation not in _SHOWN:
        if image.interpretation not in _CONVERTED:
            raise Unreadable(f"{image.interpretation} pixels cannot be shown as {format.upper()}")
        if image.interpretation != "scrgb":
            left_out.append(f"the colour space ({str(image.interpretation).upper()} became sRGB)")
            image = _without_profile(image).colourspace("srgb")
    image, shown = _without_further_channels(image)
    left_out += shown
    if image.format not in ("uchar", "ushort"):
        image = _of_unit_range(image)
        left_out.append(f"the depth (floats became {_DEPTHS[format]} bits)")
    elif image.format == "ushort" and _DEPTHS[format] < 16:
        # HEIC and AVIF of 10 bits are decoded to 16.
        bits = vips.number(image, "bits-per-sample", 16)
        if bits > _DEPTHS[format]:
            left_out.append(f"the depth ({bits} bits became {_DEPTHS[format]})")
    if format in ("webp", "avif") and _has_grey_profile(image):
        image = _grey_to_srgb(image)
    if image.format == "ushort" and _DEPTHS[format] == 8:
        image = in_8_bit(image)
    if format == "jpeg" and image.hasalpha():
        # After the conversion of depth, so that opaque is 255.
        if vips.lowest(image[image.bands - 1]) < 255:
            left_out.append("the transparency (shown on white)")
        image = image.flatten(background=WHITE[: image.bands - 1])
    return image, left_out


def in_8_bit(image: pyvips.Image) -> pyvips.Image:
    """Convert an image of 8 or 16 bits to 8 bits."""
    return image.colourspace("srgb" if image.bands > 2 else "b-w").cast("uchar")


def changed_transparency(before: pyvips.Image, after: pyvips.Image) -> list[str]:
    """The change of transparency by a palette of few colours, in words. Reads every pixel."""
    if not before.hasalpha():
        return []
    change = vips.highest(abs(_alpha(before) - _alpha(after)))
    return [f"the exact transparency (off by {change:.0f} of 255)"] if change > _INVISIBLE else []


def _alpha(image: pyvips.Image) -> pyvips.Image:
    """The transparency of an image, from 0 to 255; opaque where it has none."""
    if not image.hasalpha():
        return image[0] * 0 + 255
    return image[image.bands - 1] / (257 if image.format == "ushort" else 1)


def in_shades(image: pyvips.Image, bits: int) -> pyvips.Image:
    """Reduce a grey image of 8 bits to 2 ** bits shades, numbered as libvips writes them to PNG."""
    shades = 2**bits - 1
    return (image * (shades / 255)).rint().cast("uchar").copy(interpretation="b-w")


def _without_further_channels(image: pyvips.Image) -> tuple[pyvips.Image, list[str]]:
    """Drop channels other than grey or colour and transparency, and report them."""
    colours = 1 if image.interpretation in _GREY else 3
    if image.bands <= colours + 1:
        return image, []
    more = image.bands - colours
    return image.extract_band(0, n=colours), [f"{more} further channels (spot colours or masks)"]


def _of_unit_range(image: pyvips.Image) -> pyvips.Image:
    """Convert float samples of 0 to 1, the usual range, to 16 bits. Raises Unreadable."""
    if image.format not in ("float", "double"):
        kind = _SAMPLES.get(str(image.format), image.format)
        raise Unreadable(
            f"{kind} samples have no known black and white: scale them to unsigned ones of 8 or 16 "
            "bits"
        )
    stats = image.stats()
    low, high, total = stats(0, 0)[0], stats(1, 0)[0], stats(2, 0)[0]
    if not math.isfinite(total):
        raise Unreadable("float samples hold NaN or an infinity: replace them")
    if image.interpretation not in (*_SHOWN, "scrgb"):
        raise Unreadable(f"{image.interpretation} pixels cannot be shown")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise Unreadable(
            f"float samples from {low:.6g} to {high:.6g} have no known black and white: scale "
            "them to 0 to 1"
        )
    grey = image.interpretation in _GREY
    scaled = (image * _DEEP).rint().cast("ushort")
    return scaled.copy(interpretation="grey16" if grey else "rgb16")


def _has_grey_profile(image: pyvips.Image) -> bool:
    profile = vips.metadata(image, "icc-profile-data")
    return isinstance(profile, bytes) and profile[16:20] == b"GRAY"


def _grey_to_srgb(image: pyvips.Image) -> pyvips.Image:
    """Convert grey to sRGB: a format without grey cannot hold a profile of grey."""
    depth = 16 if image.format == "ushort" else 8
    return image.icc_transform("srgb", embedded=True, depth=depth)


def _without_profile(image: pyvips.Image) -> pyvips.Image:
    image = image.copy()
    if image.get_typeof("icc-profile-data"):
        image.remove("icc-profile-data")
    return image
