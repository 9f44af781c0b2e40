"""Shrinks pictures to fit a box, and turns pages and thumbnails upright."""

import pyvips

from tasks.images import vips

_ANGLES_ON_THE_SIDE = (5, 6, 7, 8)
_THUMBNAIL = "jpeg-thumbnail-data"
_GINT = pyvips.GValue.gint_type


def fits(image: pyvips.Image, width: int | None, height: int | None) -> bool:
    """Whether a picture, as shown, is within both bounds (in pixels)."""
    return _scale(image, width, height) >= 1


def shrink(image: pyvips.Image, width: int | None, height: int | None) -> pyvips.Image:
    """Shrink a picture, as shown, to within the bounds (in pixels); its aspect ratio is kept.

    A picture is never enlarged. The frames of an animation are shrunk one by one.
    """
    scale = _scale(image, width, height)
    if scale >= 1:
        return image
    page_height = image.get_page_height()
    across = max(1, round(image.width * scale))
    down = max(1, round(page_height * scale))
    pages = image.pagesplit() if page_height < image.height else [image]
    shrunk = [_resize(page, across / page.width, down / page.height) for page in pages]
    result = pyvips.Image.arrayjoin(shrunk, across=1) if len(shrunk) > 1 else shrunk[0]
    result = result.copy(interpretation=image.interpretation)
    if len(pages) > 1:
        result.set_type(_GINT, "page-height", down)
    if vips.number(result, "bits-per-sample", 8) < 8:  # shrinking makes new shades
        result.set_type(_GINT, "bits-per-sample", 8)
    return result


def turn_thumbnail(image: pyvips.Image) -> pyvips.Image:
    """Turn the thumbnail in an image's EXIF data upright; the image itself is turned later."""
    data = vips.metadata(image, _THUMBNAIL)
    if not isinstance(data, bytes) or vips.number(image, "orientation", 1) == 1:
        return image
    image = image.copy()
    try:
        thumbnail = pyvips.Image.jpegload_buffer(data).copy()
        thumbnail.set_type(_GINT, "orientation", vips.number(image, "orientation", 1))
        turned = thumbnail.autorot().jpegsave_buffer(Q=80, keep=0)
    except vips.VipsError:  # not a JPEG: no thumbnail is better than one on its side
        image.remove(_THUMBNAIL)
        return image
    vips.set_blob(image, _THUMBNAIL, turned)
    return image


def turn_pages(image: pyvips.Image) -> pyvips.Image:
    """Turn each page of an image upright."""
    pages = [page.autorot() for page in image.pagesplit()]
    turned = pyvips.Image.arrayjoin(pages, across=1)
    turned.set_type(_GINT, "page-height", pages[0].height)
    return turned


def _scale(image: pyvips.Image, width: int | None, height: int | None) -> float:
    across, down = image.width, image.get_page_height()
    if vips.number(image, "orientation", 1) in _ANGLES_ON_THE_SIDE:
        across, down = down, across
    return min((width or across) / across, (height or down) / down, 1.0)


def _resize(page: pyvips.Image, across: float, down: float) -> pyvips.Image:
    if not page.hasalpha():
        return page.resize(across, vscale=down)
    # Premultiplied, so that colours of transparent pixels do not bleed into visible ones.
    solid = page.premultiply().resize(across, vscale=down).unpremultiply()
    return (solid.rint() if page.format in ("uchar", "ushort") else solid).cast(page.format)
