"""compress-images and convert-images: single picture files, and sets of them."""

from tasks.images import libvips  # noqa: F401  # before any module here imports pyvips  # pyright: ignore[reportUnusedImport]
