"""python -m deployments.cli: the `prefecture` command."""

from deployments.cli.main import main

if __name__ == "__main__":
    main()
