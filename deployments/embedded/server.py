"""python -m deployments.embedded.server: `prefect`, whose server has one more endpoint."""

from prefect.cli import app

import deployments.embedded.bulk_endpoint  # noqa: F401  # adds itself  # pyright: ignore[reportUnusedImport]

if __name__ == "__main__":
    app()
