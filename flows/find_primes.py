"""find-primes: all primes up to a bound, as Parquet."""

import asyncio

from tasks.contracts import FindPrimes, Receipt, ResultsDirectory
from tasks.runtime.compute_task import compute_task, open_job
from tasks.runtime.progress import show_progress
from tasks.settings import get_settings


@compute_task("find-primes", network=False)
async def find_primes(payload: FindPrimes, results_directory: ResultsDirectory) -> Receipt:
    """Write every prime up to and including `upper_bound` to primes.parquet, and count them."""
    async with open_job(results_directory) as job:
        # Imported here, because its libraries take 0.2 s: the job is Running already.
        from tasks.primes import sieve

        async with show_progress(f"primes up to {payload.upper_bound:,}") as progress:
            found = await asyncio.to_thread(
                sieve.write_primes,
                payload.upper_bound,
                job.stage.files / "primes.parquet",
                progress.set,
                threads=get_settings().cpus,
            )
        return await job.publish(
            found.model_dump(), f"**{found.count:,} primes**, the largest {found.largest:,}."
        )
