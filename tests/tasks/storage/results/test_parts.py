"""Parts that helpers hand over while the attempt that asked for them is done with them."""

import threading
from pathlib import Path
from uuid import uuid4

from tasks.errors import StageDiscarded
from tasks.storage.results import local_files
from tasks.storage.results.parts import FOLDER, LocalParts

ROUNDS = 20
PARTS = 500  # to be removed takes time


def test_a_helper_that_is_late_does_no_harm(tmp_path: Path) -> None:
    job, attempt = uuid4(), uuid4()
    for _ in range(ROUNDS):
        with local_files.open_stage(tmp_path, "dir", job, attempt) as stage:
            parts = LocalParts(stage.files.parent / FOLDER)
            parts.open()
            for number in range(PARTS):
                (parts.folder / f"early-{number}").touch()
            began, over = threading.Event(), list[StageDiscarded]()

            def hand_over(
                own: Path = stage.files.parent / "own",
                parts: LocalParts = parts,
                began: threading.Event = began,
                over: list[StageDiscarded] = over,
            ) -> None:
                try:
                    for number in range(10_000):
                        own.write_bytes(b"part")
                        parts.put(str(number), own)
                        began.set()
                except StageDiscarded as error:
                    over.append(error)

            helper = threading.Thread(target=hand_over)
            helper.start()
            assert began.wait(240)
            parts.clear()
            helper.join(240)
            assert len(over) == 1
            assert not parts.folder.exists()
    local_files.discard_stages(tmp_path, job)
    assert local_files.staged(tmp_path) == set()
