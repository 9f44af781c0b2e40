"""What programs keep on the Prefect server for each other: models, as the values of variables."""

import sys
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import TypeVar

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.objects import Variable
from pydantic import BaseModel, ValidationError

from tasks.prefect_api.pages import PAGE

_M = TypeVar("_M", bound=BaseModel)


async def read_variables(client: PrefectClient, beginning: str) -> list[Variable]:
    """All variables whose names begin so, by name."""
    found: list[Variable] = []
    wanted = {"variables": {"name": {"like_": f"{beginning}%"}}, "limit": PAGE, "sort": "NAME_ASC"}
    for offset in range(0, sys.maxsize, PAGE):
        answer = await client.request("POST", "/variables/filter", json=wanted | {"offset": offset})
        page = Variable.model_validate_list(answer.json())
        found += page
        if len(page) < PAGE:
            break
    return found


def values_as(variables: Iterable[Variable], model: type[_M]) -> Iterator[tuple[Variable, _M]]:
    """The variables whose values fit a model, each with its value; others are not ours, in spite
    of their names."""
    for variable in variables:
        try:
            value = model.model_validate(variable.value)
        except ValidationError:
            continue
        yield variable, value


async def put_variable(client: PrefectClient, name: str, value: BaseModel) -> None:
    """Set a variable, which is made where there is none.

    Not with Prefect's Variable, which reads first, and with a new client each time.
    """
    data = value.model_dump(mode="json")
    try:
        await client.update_variable(VariableUpdate(name=name, value=data))
    except httpx.HTTPStatusError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
        await client.create_variable(VariableCreate(name=name, value=data))
