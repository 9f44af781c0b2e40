"""Pictures made and judged by Pillow, which shares no code with libvips' pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tasks.contracts import ImageFormat
from tasks.images.transform import ImageReport, compress, convert

_profile: Any = ImageCms  # Pillow leaves the type of createProfile open
SRGB: bytes = _profile.ImageCmsProfile(_profile.createProfile("sRGB")).tobytes()
ORIENTATION = 0x0112
SAVE: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 95},
    "png": {},
    "webp": {"quality": 95},
    "avif": {"quality": 95},
    "tif": {"compression": "tiff_adobe_deflate"},
    "gif": {},
}
PILLOW = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "tif": "TIFF", "gif": "GIF"}


def photo(width: int = 320, height: int = 240, shift: int = 0) -> Image.Image:
    """Smooth gradients under a little noise, and a corner that tells which way is up."""
    y, x = np.mgrid[0:height, 0:width]
    x = x + shift
    planes = [128 + 90 * np.sin(x / 60 + y / 40), 60 + 150 * x / width, 200 - 150 * y / height]
    noise = np.random.default_rng(7).normal(0, 3, (height, width, 3))
    pixels = (np.stack(planes, -1) + noise).clip(0, 255).astype(np.uint8)
    pixels[: height // 4, : width // 4] = (250, 20, 20)
    return Image.fromarray(pixels)


def save(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    (image or photo()).save(path, **{**SAVE[path.suffix[1:]], **options})
    return path


def squeeze(source: Path, ratio: float) -> tuple[ImageReport, Path]:
    target = source.parent / "out" / source.name
    target.parent.mkdir(exist_ok=True)
    return compress(source, f"trip/{source.name}", target, ratio), target


def turn_into(source: Path, format: ImageFormat) -> tuple[ImageReport, Path]:
    target = source.parent / "out" / f"{source.stem}.{format}"
    target.parent.mkdir(exist_ok=True)
    return convert(source, f"trip/{source.name}", target, format), target


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of the channels, 0 to 255."""
    assert one.size == other.size
    left, right = (pixels_of(image) for image in (one, other))
    return float(np.abs(left - right).mean())


def pixels_of(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def every_kind(folder: Path) -> list[Path]:
    frames = [photo(shift=20 * n) for n in range(4)]
    several: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    return [
        *(save(folder / f"a.{suffix}") for suffix in SAVE),
        save(folder / "progressive.jpg", progressive=True),
        *(save(folder / f"several.{s}", frames[0], **several) for s in ("gif", "webp", "tif")),
    ]
