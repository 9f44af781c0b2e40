"""Where Prefect keeps the small values that compute flows return: in a saved block.

The value is for those who use Prefect's own client, its UI and its automations. Prefecture itself
reads manifests only: a manifest stands where a result stands, also where the attempt that
published it came to its end before it could return anything.
"""

from pathlib import Path
from uuid import UUID

from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStorage

from tasks.contracts import RESULT_BLOCK
from tasks.settings import Settings, result_block_id
from tasks.storage.results.local_files import RECORDS


def result_storage() -> ResultStorage:
    """What compute flows are declared with: the saved block, once `prefecture apply` has saved it.

    Without one, where a flow is imported outside a job, it is the folder that the block would name.
    """
    # Not get_settings: this is asked when a flow is imported, which must decide nothing for others.
    results = Settings().results
    if isinstance(results, Path):
        folder, saved = results / RECORDS, result_block_id()
        return folder if saved is None else SavedFolder.of(folder, saved)
    import prefect_aws.s3  # noqa: F401  # makes the type of block known  # pyright: ignore[reportUnusedImport]

    return f"s3-bucket/{RESULT_BLOCK}"


class SavedFolder(LocalFileSystem):
    """The saved block of a folder, made of what `prefecture apply` has given the job of it.

    To load a block by its full name, Prefect imports every collection that is installed, which
    makes a short job cost three times the CPU time; to load it by its class is a request and an
    event for each job, 3 %. This costs nothing that can be measured.
    """

    _block_type_slug = "prefecture-saved-folder"

    @classmethod
    def of(cls, folder: Path, document: UUID) -> "SavedFolder":
        """The block whose document has that id, and which names that folder."""
        block = cls(basepath=str(folder))
        block._block_document_id = document
        return block
