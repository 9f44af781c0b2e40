"""The settings, and the only code that reads the environment."""

from tasks.settings.environment import (
    RESULT_BLOCK_VARIABLE,
    RUN_VARIABLE,
    SHARED_VARIABLE,
    adopt,
    api_url,
    child_environment,
    client_environment,
    engine_socket,
    flow_run_id,
    has_process_of_its_own,
    imports_start_no_thread,
    is_in_shared_container,
    own_environment,
    result_block_id,
    server_environment,
    spare_the_client,
)
from tasks.settings.model import Settings, get_settings, run_settings, settings_in_force

__all__ = [
    "RESULT_BLOCK_VARIABLE",
    "RUN_VARIABLE",
    "SHARED_VARIABLE",
    "Settings",
    "adopt",
    "api_url",
    "child_environment",
    "client_environment",
    "engine_socket",
    "flow_run_id",
    "get_settings",
    "has_process_of_its_own",
    "imports_start_no_thread",
    "is_in_shared_container",
    "own_environment",
    "result_block_id",
    "run_settings",
    "server_environment",
    "settings_in_force",
    "spare_the_client",
]
