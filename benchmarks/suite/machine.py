"""Describes the machine on which the figures were measured."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, object]:
    """The hardware of the machine and the versions of the programs."""
    cpu = Path("/proc/cpuinfo").read_text()
    memory = Path("/proc/meminfo").read_text()
    return {
        "cpu": next(
            line.split(":")[1].strip() for line in cpu.splitlines() if "model name" in line
        ),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.split("MemTotal:")[1].split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "prefect": version("prefect"),
        "prefect-docker": version("prefect-docker"),
        "docker": _output("docker", "version", "--format", "{{.Server.Version}}"),
        "commit": _output("git", "describe", "--always", "--dirty"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"none ({done.stderr.strip()[:80]})"
