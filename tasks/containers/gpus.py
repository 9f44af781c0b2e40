"""The variable of users' containers by which NVIDIA's runtime gives them GPUs."""

from collections.abc import Iterable, Mapping


def with_only(gpus: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """An environment of a container that has these GPUs alone, whatever the user or the image says.

    Where NVIDIA's runtime is the engine's default, it gives a container the GPUs that a variable
    names, though none were asked of the engine, and images have `all` in it. With `void` it does
    what runc does (NVIDIA Container Toolkit, environment variables).
    """
    return {**environment, "NVIDIA_VISIBLE_DEVICES": ",".join(gpus) or "void"}
