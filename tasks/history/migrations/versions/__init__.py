"""One file for each migration; alembic orders them by `revision` and `down_revision`."""
