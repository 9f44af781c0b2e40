"""python -m deployments.cli: the command `prefecture`."""

from deployments.cli.main import main

if __name__ == "__main__":
    main()
