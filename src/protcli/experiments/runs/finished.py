"""Which runs are finished training runs, which can be compared, reported and promoted."""

from collections.abc import Iterable

from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import Run


def why_not_finished(run: Run) -> str:
    """Why a run is not a finished training run, as a clause; empty if it is one."""
    if Tag.SUITE in run.tags and Tag.PARENT not in run.tags:
        suite = run.tags[Tag.SUITE]
        return f"it holds the runs of suite {suite}; see `protcli suite report {suite}`"
    if Tag.SWEEP in run.tags and Tag.PARENT not in run.tags:
        return f"it holds the trials of sweep {run.tags[Tag.SWEEP]}; see `protcli sweep --report {run.tags[Tag.SWEEP]}`"
    if Tag.PRUNED in run.tags:
        return "it is a trial of a sweep that was pruned"
    if run.status != "FINISHED":
        return f"it is {run.status}" + (f" ({run.tags[Tag.ERROR]})" if run.tags.get(Tag.ERROR) else "")
    if Param.DIGEST not in run.params:
        return "it is not a training run of protcli"
    if Metric.BEST_MSE not in run.metrics:
        return "it has no validation MSE"
    if Param.EVALUATED_LENGTH not in run.params:
        return f"it was trained by an earlier protcli, which did not record {Param.EVALUATED_LENGTH}"
    if File.VALIDATION_ERRORS not in run.files():
        return f"its artifacts lack {File.VALIDATION_ERRORS}: an earlier protcli trained it, or the file was deleted"
    return ""


def has_diverged(run: Run) -> bool:
    """Whether a training ended because its loss was no longer finite: a result without figures."""
    return run.status != "FINISHED" and bool(run.tags.get(Tag.DIVERGED)) and Param.DIGEST in run.params


def finished_runs(runs: Iterable[Run]) -> tuple[list[Run], dict[Run, str]]:
    """The finished training runs, and the others, each with the reason why it is not one."""
    reasons = {run: why_not_finished(run) for run in runs}
    return [run for run, reason in reasons.items() if not reason], {run: why for run, why in reasons.items() if why}
