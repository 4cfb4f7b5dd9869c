"""System metrics of a run, through its journal: MLflow's own monitor stops when the store is away once."""

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from protcli.errors import ProtcliError
from protcli.tracking.run_log import RunLog

SECONDS = 5.0  # between two samples


class Monitor(SystemMetricsMonitor):
    """Logs the use of processor, memory, disk, network and GPU while a run is written."""

    def __init__(self, log: RunLog, *, resumes: bool) -> None:
        """`resumes` counts its steps on from those that the run has."""
        super().__init__(log.id, sampling_interval=SECONDS, resume_logging=resumes)
        self._log = log

    def monitor(self) -> None:
        """Collect and log until the end."""
        while True:
            for _ in range(self.samples_before_logging):
                self.collect_metrics()
                if self._shutdown_event.wait(self.sampling_interval):
                    return
            try:
                self.publish_metrics(self.aggregate_metrics())
            except ProtcliError:
                return  # the store refuses what is written; the training finds that out itself

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log metrics as `system/NAME`, or `system/NODE/NAME` if MLflow is told this node's name."""
        prefix = self._metrics_prefix + (f"{self.node_id}/" if self.node_id else "")
        self._log.metrics({f"{prefix}{key}": value for key, value in metrics.items()}, self._logging_step)
        self._logging_step += 1
        for each in self.monitors:
            each.clear_metrics()
