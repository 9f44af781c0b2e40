"""The base of classes that extend any of Prefect's workers."""

from typing import TYPE_CHECKING, Any

from prefect.workers.base import BaseWorker

# For the type checker only: at run time the worker itself is another base of the same class.
if TYPE_CHECKING:
    WorkerMixin = BaseWorker[Any, Any, Any]
else:
    WorkerMixin = object
