"""convert-images: writes every picture in another format."""

from functools import partial

from tasks.contracts import ConvertImages, Receipt, ResultsDirectory
from tasks.images import transform
from tasks.images.batch import name_for_format, rework
from tasks.images.transform import Box
from tasks.runtime.compute_task import compute_task, open_job
from tasks.runtime.inputs import find_inputs


@compute_task("convert-images", fresh_container=True, network=False)
async def convert_images(payload: ConvertImages, results_directory: ResultsDirectory) -> Receipt:
    """Write each picture in `format`, upright and with correct colours.

    A file that cannot be read is listed as broken and does not stop the rest.
    """
    async with open_job(results_directory) as job:
        pictures = await find_inputs(payload.source, each=True)
        rename = name_for_format(pictures, payload.format)
        write = partial(
            transform.convert,
            format=payload.format,
            box=Box(payload.max_width, payload.max_height),
            metadata=payload.metadata,
        )
        outcome = await rework(pictures, rename, write, job.stage)
        return await job.publish(outcome.summary, outcome.notes, outcome.pictures)
