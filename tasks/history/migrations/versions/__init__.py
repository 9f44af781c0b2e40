"""One file a step; alembic reads them by their own `revision` and `down_revision`."""
