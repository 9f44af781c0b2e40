"""The command that prints shell completion scripts."""

import sys
from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the script that makes a shell complete commands and options.

    For bash, this line in ~/.bashrc loads it: `source <(prefecture completion bash)`. For zsh and
    fish, write it where the shell looks for completions.

    Example: `prefecture completion bash`

    Parameters
    ----------
    shell
        The shell.
    """
    # Imported here: `main` imports this module.
    from deployments.cli.main import make_app

    sys.stdout.write(make_app([]).generate_completion(shell=shell))
