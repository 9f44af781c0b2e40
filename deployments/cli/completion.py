"""The command that makes a shell complete the others."""

import sys
from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the script with which a shell completes commands and options.

    For bash, this line in ~/.bashrc loads it: `source <(prefecture completion bash)`. For zsh and
    fish, write it where the shell looks for completions.

    Example: `prefecture completion bash`

    Parameters
    ----------
    shell
        The shell that is to read it.
    """
    # Here, since the commands that it completes include this one.
    from deployments.cli.main import make_app

    sys.stdout.write(make_app([]).generate_completion(shell=shell))
