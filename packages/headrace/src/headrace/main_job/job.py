"""The main job: raw export files become tested dbt marts, by one backfill over all code locations.

Where something fails, a second one builds what does not read it.
"""

from collections.abc import Sequence
from time import sleep

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from headrace.cli.interrupts import Interrupts
from headrace.deployed.fork_server import wait_for_an_end
from headrace.local_dagster.asset_node import AssetNode
from headrace.local_dagster.daemon import LocalDaemon
from headrace.local_dagster.dead_runs import DeadRuns
from headrace.main_job.plan import BuildPlan
from headrace.main_job.progress import Progress
from headrace.main_job.report import BACKFILL_TAG, RunReport
from headrace.main_job.rest import plan_rest

_FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
_ENDED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
_UNFINISHED = [status for status in DagsterRunStatus if status not in _FINISHED]
_TICK_SECONDS = 0.5


class MainJob:
    """One run of the main job, over servers that run.

    Args:
        instance: the Dagster instance.
        daemon: the daemons that move the backfill on.
    """

    def __init__(self, instance: DagsterInstance, daemon: LocalDaemon) -> None:
        self._instance = instance
        self._daemon = daemon
        self._dead_runs = DeadRuns(instance)
        self._has_more = False

    def build(
        self, nodes: Sequence[AssetNode], plan: BuildPlan, progress: Progress, interrupts: Interrupts
    ) -> RunReport:
        """Launch one backfill of the plan and move it to its end; an interruption cancels its runs.

        The backfill moves on when none of its runs is going: in the middle of a run over a range it would find some
        of its partitions built, and ask for their children in as many runs as there were looks. Where something
        failed, a second one builds what does not read it.

        Args:
            nodes: the assets, parents before children.
            plan: what is built.
            progress: shows how far it is.
            interrupts: of the command.

        Raises:
            KeyboardInterrupt: it was interrupted, and its runs have ended, or did not within half a minute, or it was
                interrupted again.
        """
        with interrupts.deferred():
            self._daemon.end_abandoned_backfills()
            backfill_id = self._daemon.request_backfill("headrace run", plan.ranges)
            report = RunReport(self._instance, backfill_id, plan)
            self._move_to_end(backfill_id, report, progress, interrupts)
            while rest := self._rest(backfill_id, nodes, plan, report):
                interrupts.raise_if_wanted(lambda: None)
                progress.tell(f"something failed: building what does not read it, {rest.size:,} partitions")
                before = set(report.tried)
                backfill_id = self._daemon.request_backfill("headrace run, beside what failed", rest.ranges)
                report.follow(backfill_id)
                self._move_to_end(backfill_id, report, progress, interrupts)
                if report.tried == before:
                    break
            return report

    def _move_to_end(self, backfill_id: str, report: RunReport, progress: Progress, interrupts: Interrupts) -> None:
        try:
            while not self._has_ended(backfill_id, report, progress):
                interrupts.raise_if_wanted(self._wait)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                progress.tell("canceling the runs; a second Ctrl-C does not wait for them")
            self._cancel(backfill_id)
            raise

    def _rest(
        self, backfill_id: str, nodes: Sequence[AssetNode], plan: BuildPlan, report: RunReport
    ) -> BuildPlan | None:
        """Return what of a plan can still be built after something has failed; None where nothing has, or can.

        Nor where somebody has canceled the backfill, or one of its runs.
        """
        backfill = self._instance.get_backfill(backfill_id)
        is_ended_by_itself = backfill is not None and backfill.status.value.startswith("COMPLETED")
        if not report.failures or report.is_canceled or not is_ended_by_itself:
            return None
        built = {key: asset.partitions for key, asset in report.assets.items()}
        errors = {key: asset.errors for key, asset in report.assets.items()}
        refused = [node.key for node in nodes if node.blocking_checks & errors.get(node.key, set())]
        rest = plan_rest(nodes, plan, built, report.tried, refused)
        return rest if rest.size else None

    def _wait(self) -> None:
        """Wait for what a look would find: the end of a run, or events of one; not where there are more to read."""
        wait_for_an_end(0 if self._has_more else _TICK_SECONDS)

    def _has_ended(self, backfill_id: str, report: RunReport, progress: Progress) -> bool:
        """Move the backfill on, and return whether it has ended."""
        self._dead_runs.mend({BACKFILL_TAG: backfill_id})
        self._daemon.retry_runs(backfill_id)
        if not self._unfinished_runs(backfill_id):
            self._daemon.advance_backfills()
        self._daemon.launch_queued_runs()
        backfill = self._instance.get_backfill(backfill_id)
        has_ended = backfill is None or backfill.status.value in _ENDED
        self._has_more = report.update()
        while has_ended and self._has_more:
            self._has_more = report.update()
        progress.show(report)
        return has_ended

    def _cancel(self, backfill_id: str) -> None:
        self._daemon.cancel_backfill(backfill_id)
        for _ in range(60):
            self._daemon.advance_backfills()
            # One that ended just before it was asked to is canceling, and nobody else would end that.
            self._dead_runs.mend({BACKFILL_TAG: backfill_id})
            if not self._unfinished_runs(backfill_id):
                return
            sleep(_TICK_SECONDS)

    def _unfinished_runs(self, backfill_id: str) -> Sequence[str]:
        return self._instance.get_run_ids(RunsFilter(tags={BACKFILL_TAG: backfill_id}, statuses=_UNFINISHED))
