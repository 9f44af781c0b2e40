"""Pictures for tests, made with Pillow: another library than the one under test."""

from pathlib import Path

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth light with grain: compresses about as a photograph does."""
    rng = np.random.default_rng(seed)
    across = np.linspace(0, 4, width)[None, :, None]
    down = np.linspace(0, 3, height)[:, None, None]
    phase = rng.random(3) * 6
    light = 120 + 80 * np.sin(across + phase) * np.cos(down + phase)
    grain = rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(light + grain, 0, 255).astype(np.uint8))


def make_album(folder: Path) -> None:
    """Five good pictures of mixed formats, a truncated JPEG and a text file named .jpg."""
    (folder / "sub").mkdir(parents=True)
    photo(800, 600, 1).save(folder / "a.jpg", quality=95)
    photo(600, 800, 2).save(folder / "b.jpg", quality=95)
    photo(400, 300, 3).save(folder / "c.png")
    photo(640, 480, 4).save(folder / "d.webp", quality=95)
    photo(500, 500, 5).save(folder / "sub" / "e.jpg", quality=95)
    whole = (folder / "a.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("This is no picture.\n")


def make_traps(inputs: Path, outside: Path) -> None:
    """Sources that only the job itself can find wanting; `outside` is made beside the root."""
    outside.mkdir()
    photo(64, 64).save(outside / "secret.jpg")
    for name in ("empty", "texts", "linked", "tree"):
        (inputs / name).mkdir()
    (inputs / "texts" / "note.jpg").write_text("no picture")
    (inputs / "linked" / "out.jpg").symlink_to(outside / "secret.jpg")
    (inputs / "tree" / "out").symlink_to(outside)
