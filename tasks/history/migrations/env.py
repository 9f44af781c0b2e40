"""Alembic's entry point: runs migrations on a given connection, in its transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], transaction_per_migration=False
)
context.run_migrations()
