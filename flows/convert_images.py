"""convert-images: every picture of a set in another format."""

from functools import partial

from tasks.contracts import ConvertImages, Receipt, ResultsDirectory
from tasks.job import compute_task, open_job
from tasks.pictures import images
from tasks.pictures.sets import name_for_format, rework
from tasks.sources import find_inputs


@compute_task("convert-images", fresh_container=True)
async def convert_images(payload: ConvertImages, results_directory: ResultsDirectory) -> Receipt:
    """Write each picture in `format`, upright and with its colours right.

    A file that cannot be read is listed as broken and does not stop the rest.
    """
    async with open_job(results_directory) as job:
        pictures = await find_inputs(payload.source)
        rename = name_for_format(pictures, payload.format)
        write = partial(images.convert, format=payload.format)
        outcome = await rework(pictures, rename, write, job.stage)
        return await job.publish(outcome.summary, outcome.notes, outcome.pictures)
