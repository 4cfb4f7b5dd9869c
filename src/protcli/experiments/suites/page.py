"""The page of a suite's report, with tables, figures and computed sentences; its note in MLflow; its plan."""

import shlex
from pathlib import Path

import numpy as np

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.experiments.comparing.differences import MEANING, Difference, collapsed_table, difference_table
from protcli.experiments.comparing.figures import draw_comparison
from protcli.experiments.configuration import best_epoch_of, commit_of, seed_of
from protcli.experiments.pages import Page, Section, Table
from protcli.experiments.statistics.contrasts import MOST_SEEDS, POWER, power, seeds_needed
from protcli.experiments.statistics.estimates import std
from protcli.experiments.suites.report import SuiteReport
from protcli.experiments.suites.tables import class_table, map_scores, study_table, upsampling_patterns
from protcli.process import scratch_folder
from protcli.tracking.keys import File, Param, Tag

HTML, MARKDOWN = "report.html", "report.md"


def page_of(report: SuiteReport, folder: Path) -> Page:
    """The whole report; the figures are drawn into the folder.

    Raises:
        ProtcliError: see `draw_comparison`.
    """
    (comparison, *others), suite = report.comparisons, report.suite
    _, _, effects, simple_effects, _ = report.groups
    classed = [model for model in comparison.models if not suite.primary or model.name in suite.primary]
    results = (
        comparison.results,
        *report.track[0],
        *comparison_tables(report),
        map_scores(comparison),
        *(class_table(classed) if classed else ()),
        comparison.costs,
    )
    sections = [
        Section("Conclusions", points=report.conclusions),
        Section("Data", points=_data(report)),
        Section("Results", paragraphs=(recipes(report),), tables=results),
    ]
    if suite.published or suite.at_epochs:
        title = "In the layout of the study" if suite.published else "By epoch"
        sections.append(Section(title, tables=(study(report),)))
    if report.factorial.cells:
        sections.append(report.factorial.section(effects, simple_effects))
    if report.learning_curve:
        sections.append(report.learning_curve.section(folder))
    if tables := tuple(table for table, _ in upsampling_patterns(comparison)):
        about = (
            "Computed over all validation maps together, at least 16 residues from both ends of a chain. True maps "
            "have such patterns too: compare the figures with theirs."
        )
        sections.append(Section("Patterns that upsampling leaves", paragraphs=(about,), tables=tables))
    sections += (other.section for other in others)
    sections.append(Section("Figures", pictures=tuple(draw_comparison(comparison, folder, suite.figures))))
    if report.missing:
        sections.append(Section("Missing runs", points=report.missing))
    sections += [_repeat(report), Section("How to read the figures", paragraphs=(MEANING,))]
    return Page(f"Suite {suite.name}", suite.question, _warning(report), tuple(sections))


def comparison_tables(report: SuiteReport) -> list[Table]:
    """The primary comparison, those with the reference, the suite's pairs, and those with sepmean."""
    return [difference_table("Comparisons", [*report.asked, *report.groups[-1]]), *collapsed_table(report.differences)]


def _data(report: SuiteReport) -> tuple[str, ...]:
    """What the models were trained and measured on."""
    data = report.comparison.data
    params = data.run.params
    return (
        f"Name: {params[Param.DATA_NAME]}" + (" (SYNTHETIC proteins, made by protcli)" if data.is_synthetic else ""),
        f"Training split: {params[Param.TRAIN_SPLIT]}, {params[Param.TRAIN_PROTEINS]} proteins, "
        f"{params[Param.TRAIN_DIGEST]}",
        f"Validation split: {params[Param.VALID_SPLIT]}, {params[Param.VALID_PROTEINS]} proteins, "
        f"{params[Param.VALID_DIGEST]}",
        f"Atom {params[Param.ATOM].upper()}, the first {params[Param.EVALUATED_LENGTH]} residues of each chain",
        f"Digest of the above: {params[Param.DIGEST]}",
        "The test split was not opened.",
    )


def study(report: SuiteReport) -> Table:
    """Validation by epoch, in the layout of the study if there is one; cells outside the factorial only, if any."""
    models, levels = report.comparison.models, report.suite.levels
    return study_table(report.suite, [model for model in models if not levels[model.name]] or models)


def run_table(report: SuiteReport) -> Table:
    """One row per run."""
    rows = []
    for cell in report.configurations:
        for run in (*cell.runs, *cell.diverged):
            figures = "", "diverged"
            if run in cell.runs:
                figures = str(best_epoch_of(run)), f"{cell.data.scores_of(run).errors.mse:.3f}"
            rows.append((cell.name, str(seed_of(run)), *figures, commit_of(run), run.id))
    return Table("Runs", ("model", "seed", "best epoch", "MSE (Å²)", "commit", "run"), tuple(rows))


def _warning(report: SuiteReport) -> str:
    synthetic = report.comparison.data.is_synthetic
    return "SYNTHETIC proteins, made by protcli: nothing here is a result." if synthetic else ""


def recipes(report: SuiteReport) -> str:
    """With which settings the models were trained, and where these come from."""
    settings = []
    for key, name in (
        (Param.STEPS, "steps"), (Param.EPOCHS, "epochs"), (Param.BATCH_SIZE, "batch"), (Param.LR, "learning rate"),
        (Param.OPTIMIZER, "optimiser"), (Param.LOSS, "loss"), (Param.CROP, "crop"),
        (Param.PRECISION, "precision"), (Param.DEVICE_NAME, "device"),
    ):  # fmt: skip
        models: dict[str, list[str]] = {}
        for model in report.comparison.models:
            # an earlier protcli did not record the steps; a share of the proteins has its own for each seed
            if values := dict.fromkeys(run.params[key] for run in model.runs if key in run.params):
                value = " / ".join(f"{float(each):.3g}" if key == Param.LR else each for each in values)
                models.setdefault(value, []).append(model.name)
        listed = [f"{value} ({'; '.join(names)})" for value, names in models.items()] if len(models) > 1 else models
        if models:
            settings.append(f"{name} {', '.join(listed)}")
    sentences = [f"Trained with: {'; '.join(settings)}."]
    if report.suite.steps:
        sentences.append(
            f"The suite asks for {report.suite.steps} optimiser steps of every model: each was trained for the "
            "fewest whole epochs that hold them with the first seed's proteins."
        )
    if report.suite.samples:
        sentences.append(
            f"The suite gives every model {report.suite.samples:,} training proteins, or crops of them, and not one "
            "more; one that is fitted in one pass sees the whole split once."
        )
    if trials := report.parent.tags.get(Tag.TUNED_TRIALS):
        share = float(report.parent.tags[Tag.TUNED_HELD_OUT])
        tuned = "Learning rate and batch size" if report.suite.steps else "Learning rate, batch size and steps"
        sentences.append(
            f"{tuned} were tuned in {trials} trials of each model, on families held out of the training split "
            f"({share:g} of it)."
        )
    return " ".join([*sentences, f"The reference is {report.suite.reference}."])


def _repeat(report: SuiteReport) -> Section:
    commits = sorted(set(map(commit_of, report.runs)))
    command = report.parent.tags.get(Tag.COMMAND) or f"protcli suite run {report.suite.name}"
    # a user's own suite was run by the name of its file
    named = next((word for word in shlex.split(command) if Path(word).stem == report.suite.name), report.suite.name)
    return Section(
        "How to repeat it",
        paragraphs=(
            f"Commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}; the suite's own run is "
            f"{report.parent.id}, in the MLflow experiment suite-{report.suite.name}. To repeat a single run: protcli "
            "train --config, with the config.yaml among its artifacts.",
        ),
        tables=(run_table(report),),
        commands=(command, f"protcli suite report {shlex.quote(named)}"),
    )


def note_of(report: SuiteReport) -> str:
    """The short version, for the MLflow page of the suite's run."""
    parts = [f"# Suite {report.suite.name}", report.suite.question]
    if warning := _warning(report):
        parts.append(f"**{warning}**")
    parts += [
        report.comparison.data.sentence,
        "\n".join(f"- {sentence}" for sentence in report.conclusions),
        report.comparison.results.to_markdown(),
        f"The full report is the artifact `{File.REPORT}/{HTML}`; the suite's runs are nested under this one.",
    ]
    return "\n\n".join(parts)


def publish(report: SuiteReport, out: Path | None = None) -> Path | None:
    """Store the report with the suite's run and, if a folder is given, write it there: HTML, Markdown and pictures.

    Returns:
        the HTML file in that folder.

    Raises:
        ProtcliError: the folder cannot be written to, or see `page_of`.
    """
    with scratch_folder() as folder:
        page = page_of(report, folder)
        (folder / HTML).write_text(page.to_html(), "utf-8")
        (folder / MARKDOWN).write_text(page.to_markdown(), "utf-8")
        report.parent.log_artifact(folder / HTML, File.REPORT)
        report.parent.set_note(note_of(report))
        if out is None:
            return None
        try:
            out.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir()):
                with atomic_write(out / path.name) as partial:
                    partial.write_bytes(path.read_bytes())
        except OSError as error:
            raise ProtcliError(f"{out} cannot be written to: {error.strerror}") from error
        return out / HTML


def plan_table(report: SuiteReport, improvement: float) -> Table:
    """The seeds that each comparison of trained models needs to show an improvement.

    Args:
        report: of a suite that has been run with two seeds or more.
        improvement: in per cent of MSE.

    Raises:
        ProtcliError: no comparison has two seeds of both models.
    """
    known = [gain for gain in report.asked if not np.isnan(gain.contrast.seed_variances).any()]
    if not known:
        raise ProtcliError(
            "there are no two models with two seeds each that finished and did not collapse: how much seeds differ is "
            "not known yet"
        )
    notes = report.not_compared
    if unknown := [f"{gain.model} over {gain.other}" for gain in report.asked if gain not in known]:
        pairs = ", ".join(unknown)
        notes.insert(0, f"Left out, since one of the models has fewer than two seeds that did not collapse: {pairs}.")
    return Table(
        f"Seeds of each model that show an improvement of {improvement:g} % with {100 * POWER:.0f} % power",
        (
            *("model", "over", "seeds now", "scatter of seeds (%) [95 % interval]"),
            *("of families (%)", "power now", "seeds needed"),
        ),
        tuple(_row(gain, improvement) for gain in known),
        "Scatter is a standard deviation, from the runs there are; the seeds needed follow from its middle value, and "
        "are as uncertain as it is. p is 0.05, or that of the declared looks, and not adjusted for other comparisons. "
        "The improvement is taken to vary over families as these runs' difference does, a small one to be nearly the "
        "same for every chain: where a few chains gain it all, the power is much lower. "
        + " ".join(["More seeds do not make the part of the families smaller: more validation proteins do.", *notes]),
    )


def _row(gain: Difference, improvement: float) -> tuple[str, ...]:
    contrast = gain.contrast
    needed = seeds_needed(contrast, improvement, gain.alpha)
    scatters = [
        std(100 * each**0.5, seeds).format(1)
        for each, seeds in zip(contrast.seed_variances, contrast.seeds, strict=True)
    ]
    return (
        gain.model + (" (primary)" if gain.adjusted_p is None else ""),
        gain.other,
        " and ".join(map(str, contrast.seeds)),
        " and ".join(scatters),
        f"{100 * contrast.family_variance**0.5:.1f}",
        f"{100 * power(contrast, min(contrast.seeds), improvement, gain.alpha):.0f} %",
        f"more than {MOST_SEEDS}: the families decide" if needed is None else str(needed),
    )
