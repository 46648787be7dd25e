"""Reads what the live view shows, from the gateway, the load and, less often, the databases."""

from __future__ import annotations

import time

from pydantic import SecretStr

from components.config_values import migration_config, read_stack_file
from scripts.rehearsal.live import Moment
from scripts.rehearsal.testbed import Testbed
from scripts.replication import status as replication_status
from scripts.support.settings import Settings

#: Seconds that the shown share is measured over, and between two looks at the lag.
SHARE_SECONDS, LAG_SECONDS = 5.0, 2.0


class Sampler:
    """One rehearsal's; called with what it fills in."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._settings: Settings | None = None
        self._asked = 0.0

    def __call__(self, moment: Moment) -> None:
        """Fill in the figures of now; without a load there are none.

        Raises:
            MigrationError: something that is asked does not answer.
        """
        bed = self._testbed
        if not bed.load.running:
            return
        stats = bed.stats(time.time() - SHARE_SECONDS)
        weights = stats["weights"]
        moment.weight = round(100 * weights.get(bed.task_group, 0) / sum(weights.values())) if weights else None
        share = stats["share"].get(bed.task_group)
        moment.share = None if share is None else 100.0 * share
        moment.load = bed.load.figures()
        if time.monotonic() - self._asked > LAG_SECONDS:
            self._asked = time.monotonic()
            moment.lag = replication_status.read(self._replication_settings(), fence_timeout=2.0).plain()

    def _replication_settings(self) -> Settings:
        bed = self._testbed
        if self._settings is None:
            self._settings = Settings(
                # The stack's own, as the engine is in it.
                config=migration_config(read_stack_file(bed.stack_file), bed.stack_file.name),
                stack=None,
                source_url=SecretStr(bed.databases.source_url),
                target_url=SecretStr(bed.databases.target_url),
                state_dir=bed.state_dir,
            )
        return self._settings
