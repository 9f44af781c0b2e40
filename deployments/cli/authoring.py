"""Commands for authors of compute tasks."""

from deployments.cli.output.console import say
from deployments.pools import TREE
from deployments.scaffold.new_task import new_task as write_task


def new_task(name: str) -> None:
    """Write a new compute task: its flow, its entry in prefect.yaml and its test.

    The new task works at once; docs/guides/add-a-task.md says what to change.

    Example: `prefecture new-task count-words`

    Parameters
    ----------
    name
        The task's name: lower-case letters, digits and hyphens, such as count-words.
    """
    for path in write_task(name, TREE):
        say(str(path.relative_to(TREE)))
