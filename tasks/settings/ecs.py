"""The settings of the pool `ecs`."""

from pydantic import Field
from pydantic_settings import BaseSettings

_OF_TASKS = "of the tasks in ECS that jobs run in"
_ROLE = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$"
_IDS = r"^[ ,]*(%s-[0-9a-f]+([ ,]+|$))*$"


class EcsSettings(BaseSettings):
    """Where jobs of the pool `ecs` run, and as whom."""

    ecs_cluster: str | None = Field(
        default=None,
        pattern=r"^(arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:cluster/)?[A-Za-z0-9_-]{1,255}$",
        description="The cluster of Amazon ECS, by name or ARN, that jobs of the pool `ecs` run "
        "in. Default: none; then there is no such pool.",
    )
    ecs_credentials: str | None = Field(
        default=None,
        pattern=r"^aws-credentials/[a-z0-9-]+$",
        description="The Prefect block with which worker and supervisor reach ECS, such as "
        "`aws-credentials/ecs`. If it has no keys, they use the role of their machine.",
    )
    ecs_execution_role: str | None = Field(
        default=None,
        pattern=_ROLE,
        description=f"ARN of the execution role {_OF_TASKS}: ECS pulls the image with it. "
        "Default: none; enough for a public image.",
    )
    ecs_task_role: str | None = Field(
        default=None,
        pattern=_ROLE,
        description=f"ARN of the role {_OF_TASKS}: what they may do in AWS. Default: none.",
    )
    ecs_subnets: str = Field(
        default="",
        pattern=_IDS % "subnet",
        description=f"The subnets {_OF_TASKS}, separated by commas; tasks there get no public "
        "address. Default: those of the default VPC, and a public address.",
    )
    ecs_security_groups: str = Field(
        default="",
        pattern=_IDS % "sg",
        description=f"The security groups {_OF_TASKS}, separated by commas, with "
        "`PREFECTURE_ECS_SUBNETS`. Default: that of the VPC.",
    )
