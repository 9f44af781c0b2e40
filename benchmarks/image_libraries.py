"""Compress the same photos with libvips and with Pillow: throughput, memory, encodings per file.

    python benchmarks/image_libraries.py [--photos N] [--size WxH] [--rounds N]

Both use the same search, and write baseline JPEG with optimal Huffman tables and the original's
chroma subsampling; only the library differs. Each pass is a separate process, and the two
alternate, so that a busy machine slows both.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

RATIO = 0.4
LIBRARIES = ("libvips", "Pillow")


def make_photo(path: Path, width: int, height: int, seed: int) -> None:
    """Write a camera-like JPEG: detail at every scale, as in nature, and sensor noise."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128, dtype=np.float32)
    for octave in range(2, 11):
        size = (max(2, width * 2**octave // 4096), max(2, height * 2**octave // 4096))
        for channel in range(3):
            layer = random.normal(0, 90 / 2 ** (0.8 * octave), size[::-1]).astype(np.float32)
            scaled = Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(scaled)
    pixels += random.normal(0, 2, pixels.shape).astype(np.float32)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=93)


def with_libvips(source: Path, target: Path) -> int:
    """Compress with the code of compress-images. Returns the number of encodings."""
    from tasks.images import transform, vips

    encodings = 0
    encode = vips.encode

    def counted(*arguments: object, **named: object) -> object:
        nonlocal encodings
        encodings += 1
        return encode(*arguments, **named)  # pyright: ignore[reportArgumentType] - passed through

    setattr(vips, "encode", counted)  # noqa: B010 - counts, for this benchmark only
    try:
        report = transform.compress(source, source.name, target, RATIO)
    finally:
        setattr(vips, "encode", encode)  # noqa: B010
    assert report.outcome == "done", report
    return encodings


def with_pillow(source: Path, target: Path) -> int:
    """Compress with Pillow: decode once, search, write the best. Returns the encodings' number."""
    from tasks.images.encoders import FIRST_QUALITY, highest_fitting, jpeg_position

    best = b""
    encodings = 0
    budget = int(RATIO * source.stat().st_size)

    Image.MAX_IMAGE_PIXELS = None  # large photos are part of the comparison
    with Image.open(source) as image:
        image.load()

        def measure(rung: int) -> int:
            nonlocal best, encodings
            encodings += 1
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=rung + 1, optimize=True, subsampling="4:2:0")
            if buffer.tell() <= budget:
                best = buffer.getvalue()
            return buffer.tell()

        found = highest_fitting(measure, budget, 100, jpeg_position, FIRST_QUALITY - 1)
    assert found is not None
    target.write_bytes(best)
    return encodings


def peak_memory() -> float:
    """This process' peak resident size, in MiB; `ru_maxrss` would include its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(library: str, folder: Path) -> None:
    """One measured pass over the folder, in this process; prints its figures as JSON."""
    work = with_libvips if library == "libvips" else with_pillow
    sources = sorted(folder.glob("*.jpg"))
    if library == "libvips":
        import tasks.images.transform  # pyright: ignore[reportUnusedImport] - off the clock
    else:
        Image.init()
        import tasks.images.encoders  # noqa: F401  # pyright: ignore[reportUnusedImport] - off the clock
    with tempfile.TemporaryDirectory() as out:
        started, cpu = time.perf_counter(), time.process_time()
        encodings = [work(source, Path(out) / source.name) for source in sources]
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    figures = {
        "rate": sum(source.stat().st_size for source in sources) / seconds / 1e6,
        "cpu": cpu,
        "peak": peak_memory(),
        "encodings": statistics.mean(encodings),
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run[0], Path(arguments.run[1]))
        return
    width, height = (int(side) for side in arguments.size.split("x"))
    figures: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.photos):
            make_photo(Path(folder) / f"{seed}.jpg", width, height, seed)
        for _ in range(arguments.rounds):
            for library in LIBRARIES:
                command = [sys.executable, __file__, "--run", library, folder]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                figures[library].append(json.loads(done.stdout))
    medians = {
        library: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for library, runs in figures.items()
    }
    print(
        f"{arguments.photos} photos of {arguments.size}, to {RATIO:.0%}, {arguments.rounds} rounds"
    )
    for library, median in medians.items():
        print(
            f"{library:8} {median['rate']:6.2f} MB/s  {median['cpu']:6.2f} s CPU  "
            f"{median['peak']:6.0f} MiB peak  {median['encodings']:.1f} encodings/file"
        )
    ours, peer = (medians[library] for library in LIBRARIES)
    labels = {"rate": "rate", "cpu": "CPU", "peak": "peak memory"}
    ratios = (f"{label} {ours[key] / peer[key]:.2f}" for key, label in labels.items())
    print(f"libvips / Pillow: {', '.join(ratios)}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
