"""compress-images: reduces every picture to at most a given share of its bytes."""

from functools import partial

from tasks.contracts import CompressImages, Receipt, ResultsDirectory
from tasks.images import transform
from tasks.images.batch import keep_name, rework
from tasks.images.transform import Box
from tasks.runtime.compute_task import compute_task, open_job
from tasks.runtime.inputs import find_inputs


@compute_task("compress-images", fresh_container=True, network=False)
async def compress_images(payload: CompressImages, results_directory: ResultsDirectory) -> Receipt:
    """Make each picture at most `ratio` of its bytes, at the best quality that fits.

    The format is kept. A picture that cannot be made that small is published at the smallest size
    reached and listed as missed; a file that cannot be read is listed as broken.
    """
    async with open_job(results_directory) as job:
        pictures = await find_inputs(payload.source, each=True)
        shrink = partial(
            transform.compress,
            ratio=payload.ratio,
            box=Box(payload.max_width, payload.max_height),
            metadata=payload.metadata,
        )
        outcome = await rework(pictures, keep_name, shrink, job.stage)
        return await job.publish(outcome.summary, outcome.notes, outcome.pictures)
