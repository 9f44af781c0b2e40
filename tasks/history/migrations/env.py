"""What alembic runs for each migration: on the connection that it is given, in its transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], transaction_per_migration=False
)
context.run_migrations()
