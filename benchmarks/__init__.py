"""Measurements. Their servers have the password of the tests, set before Prefect is imported."""

import tests.support.session.environment  # noqa: F401  # pyright: ignore[reportUnusedImport]
