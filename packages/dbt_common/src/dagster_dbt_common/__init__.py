"""How any dbt project runs under Dagster, with incremental models as partitioned assets.

`dbt_definitions` is the one call. The rest is for those who build their own: selectors, windows, partitions, the
translator, the dbt resource and the prepared project.
"""

from dagster_dbt_common.assets.translator import PartitionedDbtTranslator
from dagster_dbt_common.component import PartitionedDbtProjectComponent
from dagster_dbt_common.definitions import dbt_definitions
from dagster_dbt_common.engine.resource import DbtResource
from dagster_dbt_common.errors import DbtConfigError, StaleManifestError, WindowError
from dagster_dbt_common.partitions.config import PartitionConfig, partition_config
from dagster_dbt_common.partitions.groups import (
    INCREMENTAL_SELECTOR,
    MICROBATCH_SELECTOR,
    PartitionGroup,
    PartitionPlan,
    plan_partitions,
)
from dagster_dbt_common.partitions.window import Window
from dagster_dbt_common.project.fingerprint import MACROS_DIR
from dagster_dbt_common.project.prepared import package_project, prepared_project

__all__ = [
    "INCREMENTAL_SELECTOR",
    "MACROS_DIR",
    "MICROBATCH_SELECTOR",
    "DbtConfigError",
    "DbtResource",
    "PartitionConfig",
    "PartitionGroup",
    "PartitionPlan",
    "PartitionedDbtProjectComponent",
    "PartitionedDbtTranslator",
    "StaleManifestError",
    "Window",
    "WindowError",
    "dbt_definitions",
    "package_project",
    "partition_config",
    "plan_partitions",
    "prepared_project",
]
