"""python -m deployments.server.migrate

Brings the database of Prefect's server up to date, once for several servers: its tables, the types
of blocks, and, where the operator gives none, the key that encrypts blocks.
"""

from tasks.runtime.importing import importing

with importing():
    import asyncio
    import sys

    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration
    from prefect.server.utilities.encryption import encrypt_fernet
    from sqlalchemy.exc import SQLAlchemyError


async def migrate() -> None:
    """Bring the database up to date. Idempotent."""
    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)
    async with database.session_context(begin_transaction=True) as session:
        await encrypt_fernet(session, {})  # makes the key: two servers would each make one


def main() -> None:
    """Run it. An outage of the database is one line, and exit code 1."""
    try:
        asyncio.run(migrate())
    except (OSError, SQLAlchemyError) as error:
        reason = str(error).partition("\n")[0]
        sys.exit(f"prefecture: the database of the server cannot be used: {reason}")


if __name__ == "__main__":
    main()
