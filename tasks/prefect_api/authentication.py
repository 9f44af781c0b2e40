"""Who this process is to the Prefect API: another user than that of its environment.

Prefect's own `temporary_settings` validates all settings again, which takes 19 ms of each job's
start; a copy with one other value takes 0.1 ms. The settings of all threads are in a global of
`prefect.context`, and the function that renews it takes as long.
"""

import prefect.context
from prefect.context import SettingsContext, get_settings_context
from pydantic import SecretStr


def authenticated_as(auth: str) -> SettingsContext:
    """Settings with another PREFECT_API_AUTH_STRING, in force in the block of a `with`."""
    now = get_settings_context()
    api = now.settings.api.model_copy(update={"auth_string": SecretStr(auth)})
    return SettingsContext(
        profile=now.profile, settings=now.settings.model_copy(update={"api": api})
    )


def authenticate(auth: str) -> None:
    """Use another PREFECT_API_AUTH_STRING from now on, in all threads."""
    prefect.context.GLOBAL_SETTINGS_CONTEXT = authenticated_as(auth)
