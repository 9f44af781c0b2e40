"""python -m deployments.server.program: Prefect's CLI, whose server has one more endpoint."""

from tasks.runtime.importing import importing

with importing():
    from importlib import import_module

    from prefect.cli import app

    import deployments.server.bulk_endpoint  # noqa: F401  # registers its route  # pyright: ignore[reportUnusedImport]

    # Modules that the command would import later anyway.
    for name in ("prefect.cli.server", "prefect.server.api.server"):
        import_module(name)

if __name__ == "__main__":
    app()
