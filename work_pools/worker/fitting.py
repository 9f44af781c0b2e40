"""Which of the runs that wait a host has room for."""

from collections.abc import Sequence

from tasks.contracts import Resources


def fitting(asked: Sequence[Resources], offer: Resources, taken: Sequence[Resources]) -> list[bool]:
    """Whether each of the runs that wait, in their order, may start on this host now.

    `taken`: what the jobs that run here ask for. A run that this host can never serve is left to
    others, and keeps nobody waiting. One that it can serve later holds its share: what comes after
    it does not take the memory that it waits for, so it starts before them.
    """
    left = offer
    for each in taken:
        left = left.without(each)
    may: list[bool] = []
    for each in asked:
        if offer.lacks(each):
            may.append(False)
            continue
        needs = Resources(memory=each.memory, gpus=each.gpus)
        # Who asks for no memory takes none, also where more is promised than there is.
        short = (each.memory > 0 and each.memory > left.memory) or (
            each.gpus > 0 and each.gpus > left.gpus
        )
        may.append(not short)
        left = left.without(needs)
    return may
