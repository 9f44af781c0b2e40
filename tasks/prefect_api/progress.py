"""The description of a progress artifact: the number, which the UI's bar lacks, and a text."""


def description(percent: float, text: str) -> str:
    """The description of a bar at `percent`, such as `50 %: 3 of 6 pictures`."""
    return ": ".join(part for part in (f"{percent:g} %", text) if part)


def text_of(percent: float, description: str) -> str:
    """The text that a description of a bar at `percent` was made with."""
    return description.removeprefix(f"{percent:g} %").removeprefix(": ")
