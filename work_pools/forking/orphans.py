"""Adoption of processes whose parent has ended."""

from work_pools.forking.c_library import call

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends (a subreaper).

    Forks do not inherit this. Raises OSError where the kernel refuses.
    """
    call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
