"""The model registry: versions with their lineage, the aliases, and who has read a test set."""

import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd
from filelock import FileLock
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import ALREADY_EXISTS, RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from protcli.errors import ProtcliError
from protcli.process import is_gone, lasting_scratch_folder, scratch_folder, this_process
from protcli.tracking.bundle import BUNDLE, SHIPPED, read_bundle, write_bundle
from protcli.tracking.keys import Param, Tag
from protcli.tracking.run import Run
from protcli.tracking.store import open_store, search_all_runs, sqlite_file, tracking_uri
from protcli.training.predictor import SavedModel

CHAMPION, CHALLENGER, NO_CHAMPION = "champion", "challenger", "no champion"
UNFIT = "/:.%\"'@"  # for a model's name: MLflow refuses most of them, and finds no alias behind the last
MODEL_URI = re.compile(r"models:/(?P<name>[^/:]+?)(?:@(?P<alias>[^/:@]+)|/(?P<number>\d+))")
DESCRIPTION_LENGTH = 5000  # MLflow's limit for the description of a version
EXAMPLE = "MKVLAAGIVGLLLAQPS"
PACKAGES = (
    *("mlflow", "torch", "torchvision", "lightning-fabric", "safetensors", "numpy", "scipy", "pandas", "pydantic"),
    *("psutil", *(["pyhmmer"] if find_spec("pyhmmer") else [])),  # there is none for Windows
)  # needed to serve

_MATRIX = Array(Array(DataType.double))
INPUTS = ColSpec(DataType.string, "sequence"), ColSpec(_MATRIX, "profile", required=False)  # [L], [L][21]
FEATURES = ColSpec(_MATRIX, "features")  # [L][D], of models that read any
SIGNATURE = ModelSignature(
    inputs=Schema([*INPUTS]),
    outputs=Schema([ColSpec(_MATRIX, "distance")]),  # [L][L] in angstrom
)


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name, number: name of the registered model and number of the version.
        run_id: run that trained it; empty if protcli did not register it.
        aliases: aliases that point to it.
        tags: by name.
    """

    name: str
    number: int
    run_id: str
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The address that MLflow and `--model` accept."""
        return f"models:/{self.name}/{self.number}"

    @property
    def members(self) -> tuple[str, ...]:
        """The runs whose mean it predicts; empty if it has the weights of its one run."""
        return tuple(filter(None, self.tags.get(Tag.MEMBERS, "").split(",")))


class Registry:
    """The model registry of the run store."""

    def __init__(self) -> None:
        """Raises ProtcliError as `open_store` does."""
        self._client = open_store()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time decide; the lock is a file beside a sqlite store.

        Other stores have no lock file; for them `register` checks again after writing.
        """
        file = sqlite_file(tracking_uri())
        with FileLock(f"{file}.registry.lock") if file else nullcontext():
            yield

    def find(self, uri: str) -> Version:
        """The version at `models:/NAME@ALIAS` or `models:/NAME/NUMBER`.

        Raises:
            ProtcliError: the address is invalid, or the model, alias or version does not exist.
        """
        match = MODEL_URI.fullmatch(uri)
        if match is None:
            raise ProtcliError(f"{uri} is not a model address: give models:/NAME@{CHAMPION} or models:/NAME/NUMBER")
        name, alias, number = match["name"], match["alias"], match["number"]
        try:
            if alias is not None:
                entry = self._client.get_model_version_by_alias(name, alias)
            else:
                entry = self._client.get_model_version(name, number)
        except MlflowException as error:
            known = ", ".join(sorted(model.name for model in self._client.search_registered_models())) or "none"
            raise ProtcliError(
                f"there is no {uri} in {tracking_uri()} (registered models: {known}): register one with protcli promote"
            ) from error
        return Version(name, int(entry.version), entry.run_id or "", tuple(entry.aliases), dict(entry.tags))

    def aliased(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to, if there is one."""
        with suppress(ProtcliError):
            return self.find(f"models:/{name}@{alias}")
        return None

    def of_run(self, run_id: str, name: str, members: tuple[str, ...] = ()) -> Version | None:
        """The first version of a model that was registered from a run, with its weights alone or with these members."""
        return next((each for each in self.versions_of(run_id, members) if each.name == name), None)

    def versions_of(self, run_id: str, members: tuple[str, ...] = ()) -> list[Version]:
        """The versions of all models that were registered from a run so, by name and number."""
        entries = self._client.search_model_versions(f"run_id = '{run_id}'")
        found = [self.find(f"models:/{each.name}/{each.version}") for each in entries]  # entries may lack their aliases
        return sorted((each for each in found if each.members == members), key=lambda each: (each.name, each.number))

    def compared(self, name: str, digest: str, run_id: str, members: tuple[str, ...] = ()) -> int:
        """How many versions of a model were compared with a champion on the validation proteins with this digest.

        That of a run with these members is left out: it would be decided again.
        """
        return sum(
            Tag.AGAINST in entry.tags
            and entry.tags.get(Param.VALID_DIGEST, digest) == digest  # 0.1.0 did not note it
            and (entry.run_id, entry.tags.get(Tag.MEMBERS, "")) != (run_id, ",".join(members))
            for entry in self._client.search_model_versions(f"name = '{name}'")
        )

    def register(
        self,
        name: str,
        run: Run,
        model: SavedModel,
        *,
        description: str,
        tags: Mapping[str, Any],
        members: tuple[str, ...] = (),
        step: int = 0,
    ) -> Version:
        """Register a version for the run's model, or describe anew the one that the run already has with these members.

        The version holds the model, a copy of protcli's own code (see `docs/from-training-to-serving.md` for why) and
        the file that MLflow runs to load it; no pickle.

        Args:
            name: name of the registered model, which is created if needed.
            run: run that trained it.
            model: what it predicts with.
            description, tags: of the version.
            members: ids of the runs whose mean it predicts, if it is an ensemble.
            step: step of the run whose metrics MLflow shows with the model.

        Raises:
            ProtcliError: MLflow rejects the model name.
        """
        self._remove_left(run)
        description = description[:DESCRIPTION_LENGTH]
        if existing := self.of_run(run.id, name, members):
            self._client.update_model_version(name, str(existing.number), description)
            return existing
        try:
            self._client.create_registered_model(name, description="Protein distance maps, managed by protcli promote.")
        except MlflowException as error:
            if error.error_code not in map(ErrorCode.Name, (RESOURCE_ALREADY_EXISTS, ALREADY_EXISTS)):
                raise ProtcliError(f"cannot create a registered model {name!r}: {error}") from error
        model_id = self._log_model(name, run, model, step)
        texts = {key: str(value) for key, value in tags.items()} | ({Tag.MEMBERS: ",".join(members)} if members else {})
        created = self._client.create_model_version(
            name, f"models:/{model_id}", run.id, tags=texts, description=description, model_id=model_id
        )
        # without a lock another process may have registered the same run meanwhile: keep the first version
        first = next(each for each in self.versions_of(run.id, members) if each.name == name)
        if first.number != int(created.version):
            self._client.delete_model_version(name, created.version)
        return first

    def _remove_left(self, run: Run) -> None:
        """Delete the models that a killed process stored as outputs of the run before they became versions."""
        registered = {item.source for item in self._client.search_model_versions(f"run_id = '{run.id}'")}
        for model in self._client.search_logged_models([run.experiment_id], f"source_run_id = '{run.id}'"):
            if f"models:/{model.model_id}" not in registered and is_gone(model.tags.get(Tag.PROCESS, "")):
                self._client.delete_logged_model(model.model_id)

    def _log_model(self, name: str, run: Run, saved: SavedModel, step: int) -> str:
        """Store the model as an output of the run; return its ID."""
        tags, path = {Tag.PROCESS: this_process()}, sys.path.copy()
        example: dict[str, list[Any]] = {"sequence": [EXAMPLE[: saved.longest_chain]]}
        signature = SIGNATURE
        if count := saved.spec.features:
            signature = ModelSignature(inputs=Schema([*INPUTS, FEATURES]), outputs=SIGNATURE.outputs)
            example["features"] = [[[0.0] * count] * len(example["sequence"][0])]
        with scratch_folder() as scratch:
            write_bundle(saved, scratch / BUNDLE)
            package = Path(__file__).parents[1]
            shutil.copytree(package, scratch / package.name, ignore=shutil.ignore_patterns(SHIPPED.name, "__pycache__"))
            model = self._client.create_logged_model(run.experiment_id, name, source_run_id=run.id, tags=tags)
            try:
                Model.log(
                    None,
                    flavor=mlflow.pyfunc,
                    model_id=model.model_id,
                    run_id=run.id,
                    step=step,
                    python_model=str(Path(__file__).with_name("served_model.py")),
                    artifacts={BUNDLE: str(scratch / BUNDLE)},
                    code_paths=[str(scratch / package.name)],
                    signature=signature,
                    input_example=pd.DataFrame(example),
                    # inferring them takes ten seconds, and a local build (2.14.0+cpu) is not on any index
                    pip_requirements=[f"{package}=={installed(package).split('+')[0]}" for package in PACKAGES],
                )
            finally:
                sys.path[:] = path  # MLflow tries out the model and leaves its code folder on the path
        return model.model_id

    def set_alias(self, version: Version, alias: str) -> None:
        """Point an alias to a version instead of any other."""
        self._client.set_registered_model_alias(version.name, alias, str(version.number))

    def tag(self, version: Version, values: Mapping[str, Any]) -> None:
        """Set tags of a version; existing tags are overwritten."""
        for key, value in values.items():
            self._client.set_model_version_tag(version.name, str(version.number), key, str(value))

    def load(self, version: Version) -> SavedModel:
        """What a version predicts with; its files are removed when the process ends. Raises ProtcliError if it has
        none."""
        uri, folder = f"{version.uri}/artifacts/{BUNDLE}", lasting_scratch_folder()
        try:
            downloaded = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
        except (MlflowException, OSError) as error:
            raise ProtcliError(
                f"{version.uri} does not hold a model registered by protcli promote, or its files are gone"
            ) from error
        return read_bundle(Path(downloaded), version.uri, version.run_id)


# --- who has read a test set: the more often it guides choices, the less its metrics mean ---


class Readings(NamedTuple):
    """How often one test set has been read in the whole store, including by deleted runs.

    Attributes:
        total: all readings.
        by_others: readings by runs that were not champion at the time.
    """

    total: int
    by_others: int

    def __str__(self) -> str:
        readings = "1 reading" if self.total == 1 else f"{self.total} readings"
        return f"{readings}, {self.by_others} of them by models that were not champion"


def record_reading(run: Run, digest: str, members: tuple[str, ...] = ()) -> Readings:
    """Record on a run that it reads the test set with this digest; count all readings including this one.

    `members` are those of the ensemble that reads it, see `Registry.of_run`. Each reading is its own tag, so that
    concurrent readings are not lost.
    """
    names = sorted({version.name for version in Registry().versions_of(run.id, members) if CHAMPION in version.aliases})
    reader = f"champion of {', '.join(names)}" if names else NO_CHAMPION
    mark, moment = _mark(digest), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(4)}"
    run.set_tags({mark: "yes", f"{mark}.{moment}": reader})
    return count_readings(digest)


def count_readings(digest: str) -> Readings:
    """How often the test set with this digest has been read."""
    client, mark = open_store(), _mark(digest)
    experiments = [experiment.experiment_id for experiment in client.search_experiments(view_type=ViewType.ALL)]
    readers = [
        reader
        for run in search_all_runs(client, experiments, {mark: "yes"}, deleted=True)
        for key, reader in run.data.tags.items()
        if key.startswith(f"{mark}.")
    ]
    return Readings(len(readers), readers.count(NO_CHAMPION))


def _mark(digest: str) -> str:
    return f"{Tag.TEST_READ}.{digest[:16]}"
