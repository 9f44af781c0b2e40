"""The audit log: a line of JSON for each action of a user, and for each that was refused."""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from tasks.settings import make_private_folder

_SHOWN = 20  # jobs of one action that a line names


class AuditLog:
    """A file that lines are added to. It may be moved away at any time, by logrotate for example.

    Its folder is made readable for its owner alone.
    """

    def __init__(self, file: Path) -> None:
        make_private_folder(file.parent)
        self._file = file

    def write(
        self,
        action: str,
        status: int,
        *,
        user: str | None,
        token: str | None,
        address: str,
        jobs: Iterable[UUID] = (),
        schedule: UUID | None = None,
        reason: str = "",
    ) -> None:
        """Add a line. `action`: the route's name; `status`: that of the response; `user`, `token`:
        None where they are unknown; `schedule`: that it is about; `reason`: of a refusal."""
        listed = [str(job) for job in jobs]
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "user": user,
            "token": token,
            "address": address,
            "action": action,
            "status": status,
            "jobs": listed[:_SHOWN],
            **({"more_jobs": len(listed) - _SHOWN} if len(listed) > _SHOWN else {}),
            **({"schedule": str(schedule)} if schedule else {}),
            **({"reason": reason} if reason else {}),
        }
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{json.dumps(line, ensure_ascii=False)}\n".encode())
        finally:
            os.close(descriptor)
