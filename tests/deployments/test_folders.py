"""The roots on the host: whose they are, and what is refused."""

import os
from pathlib import Path

import pytest

from deployments.folders import prepare_folders
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import Settings

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="gives folders away, as root alone can")

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")


def test_new_folders_belong_to_the_user_of_jobs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    prepare_folders(settings, Pool.DOCKER)
    for folder in (settings.written, settings.written / ".prefect", settings.written / ".staging"):
        assert (folder.stat().st_uid, folder.stat().st_gid) == (10001, 10001)
    assert settings.inputs.stat().st_uid == 0


def test_what_root_made_is_handed_over_but_no_result_is_touched(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    result = settings.written / "trips" / "2026" / "job"
    result.mkdir(parents=True)
    (result / "manifest.json").touch()
    prepare_folders(settings, Pool.DOCKER)
    assert result.parent.stat().st_uid == 10001
    assert (result.stat().st_uid, (result / "manifest.json").stat().st_uid) == (0, 0)


def test_somebody_elses_results_root_is_used_as_its_owner(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.written.mkdir()
    os.chown(settings.written, 12345, 12346)
    assert settings.user == "12345:12346"
    prepare_folders(settings, Pool.DOCKER)
    assert settings.written.stat().st_uid == 12345


def test_a_results_root_that_jobs_cannot_write_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, container_user="555:555")
    settings.written.mkdir()
    os.chown(settings.written, 12345, 12346)
    with pytest.raises(OperatorError, match="cannot be written by 555:555"):
        prepare_folders(settings, Pool.DOCKER)
