"""The storage of the small values that compute flows return: a saved block of Prefect's.

The value is for users of Prefect's own client, UI and automations. Prefecture itself reads only
manifests: every result has one, even if the attempt that published it died before it returned.
"""

from pathlib import Path
from uuid import UUID

from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStorage

from tasks.contracts import RESULT_BLOCK
from tasks.settings import Settings, result_block_id
from tasks.storage.results.local_files import RECORDS


def result_storage() -> ResultStorage:
    """Result storage of compute flows: the block that `prefecture apply` has saved.

    Without a saved block, where a flow is imported outside a job, it is the folder that the block
    would name.
    """
    # Not get_settings, which caches: importing a flow must not fix the settings for other code.
    results = Settings().results
    if isinstance(results, Path):
        folder, saved = results / RECORDS, result_block_id()
        return folder if saved is None else SavedFolder.of(folder, saved)
    import prefect_aws.s3  # noqa: F401  # registers the block type  # pyright: ignore[reportUnusedImport]

    return f"s3-bucket/{RESULT_BLOCK}"


class SavedFolder(LocalFileSystem):
    """The saved block of a folder, made from the block id that `prefecture apply` gives the job.

    Loading a block by its full name imports every installed collection: a short job then costs
    three times the CPU time. Loading it by its class costs a request and an event for each job,
    3 %. This class costs nothing that can be measured.
    """

    _block_type_slug = "prefecture-saved-folder"

    @classmethod
    def of(cls, folder: Path, document: UUID) -> "SavedFolder":
        """Make the block with that folder and the id `document`."""
        block = cls(basepath=str(folder))
        block._block_document_id = document
        return block
