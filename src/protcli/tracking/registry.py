"""The model registry: versions with their lineage, and the aliases `champion` and `challenger`."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from filelock import FileLock
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import ALREADY_EXISTS, RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.types.schema import Array, ColSpec, DataType, Schema

import protcli
from protcli.errors import ProtcliError
from protcli.tracking.bundle import BUNDLE
from protcli.tracking.runs import RecordedRun
from protcli.tracking.store import SQLITE, open_store, tracking_uri

CHAMPION, CHALLENGER = "champion", "challenger"
MODEL_URI = re.compile(r"models:/(?P<name>[^/:@]+)(?:@(?P<alias>[^/:@]+)|/(?P<number>\d+))")
DESCRIPTION_LENGTH = 5000  # of a version, in MLflow's own database
EXAMPLE = "MKVLAAGIVGLLLAQPS"
PACKAGES = ("mlflow", "torch", "torchvision", "lightning-fabric", "safetensors", "numpy", "pandas")  # to serve

_MATRIX = Array(Array(DataType.double))
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "sequence"), ColSpec(_MATRIX, "profile", required=False)]),  # [L], [L][21]
    outputs=Schema([ColSpec(_MATRIX, "distance")]),  # [L][L] in angstrom
)


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name, number: of the registered model, and of the version in it.
        run_id: of the run that trained it; empty for one that protcli did not register.
        aliases: that point to it.
        tags: by name.
    """

    name: str
    number: int
    run_id: str
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """As MLflow and `--model` take it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def is_champion(self) -> bool:
        """Whether the alias points to it."""
        return CHAMPION in self.aliases


class Registry:
    """The registry of the store that runs are kept in."""

    def __init__(self) -> None:
        """Raises ProtcliError as `open_store` does."""
        self._client = open_store()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time decides: a file beside a sqlite store is the lock.

        Another kind of store has no such file: there `register` looks again after it has written.
        """
        uri = tracking_uri()
        with FileLock(f"{uri.removeprefix(SQLITE)}.registry.lock") if uri.startswith(SQLITE) else nullcontext():
            yield

    def find(self, uri: str) -> Version:
        """The version at `models:/NAME@ALIAS` or `models:/NAME/NUMBER`.

        Raises:
            ProtcliError: no such address, model, alias or version.
        """
        match = MODEL_URI.fullmatch(uri)
        if match is None:
            raise ProtcliError(f"{uri} is no model's address: give models:/NAME@{CHAMPION} or models:/NAME/NUMBER")
        name, alias, number = match["name"], match["alias"], match["number"]
        try:
            if alias is not None:
                return _version(self._client.get_model_version_by_alias(name, alias))
            return _version(self._client.get_model_version(name, number))
        except MlflowException as error:
            known = ", ".join(sorted(model.name for model in self._client.search_registered_models())) or "none"
            raise ProtcliError(
                f"there is no {uri} in {tracking_uri()} (registered models: {known}): protcli promote registers one"
            ) from error

    def aliased(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to, if there is one."""
        try:
            return _version(self._client.get_model_version_by_alias(name, alias))
        except MlflowException:
            return None

    def of_run(self, run_id: str, name: str | None = None) -> list[Version]:
        """The versions that a run was registered as, in one model or in all; the oldest first."""
        found = self._client.search_model_versions(f"run_id = '{run_id}'")
        # what a search finds may lack its aliases
        versions = [_version(self._client.get_model_version(item.name, item.version)) for item in found]
        return sorted((v for v in versions if name in (None, v.name)), key=lambda v: (v.name, v.number))

    def register(
        self,
        name: str,
        run: RecordedRun,
        bundle: Path,
        *,
        longest_chain: int,
        description: str,
        tags: Mapping[str, Any],
        step: int = 0,
    ) -> Version:
        """A version of the run's model; the one there is, where the run has one already.

        The version holds the bundle, a copy of protcli's own code (see `docs/from-training-to-serving.md` for why) and
        the file that MLflow runs to load it; no pickle.

        Args:
            name: of the registered model, which is made where there is none.
            run: that trained it.
            bundle: folder that `write_bundle` has made.
            longest_chain: residues of the longest chain that the model takes.
            description, tags: of the version.
            step: whose metrics of the run MLflow shows with the model.

        Raises:
            ProtcliError: MLflow takes no model of that name.
        """
        if existing := self.of_run(run.id, name):
            return existing[0]
        try:
            self._client.create_registered_model(
                name, description="Distance maps of proteins, kept by protcli promote."
            )
        except MlflowException as error:
            if error.error_code not in map(ErrorCode.Name, (RESOURCE_ALREADY_EXISTS, ALREADY_EXISTS)):
                raise ProtcliError(f"there can be no registered model {name!r}: {error}") from error
        model_id = self._log_model(name, run, bundle, longest_chain, step)
        created = self._client.create_model_version(
            name,
            f"models:/{model_id}",
            run.id,
            tags={key: str(value) for key, value in tags.items()},
            description=description[:DESCRIPTION_LENGTH],
            model_id=model_id,
        )
        # without a lock somebody may have registered the same run meanwhile: the first one stays
        first = self.of_run(run.id, name)[0]
        if first.number != int(created.version):
            self._client.delete_model_version(name, created.version)
        return first

    def _log_model(self, name: str, run: RecordedRun, bundle: Path, longest_chain: int, step: int) -> str:
        """Store the model as one that the run has made; its id."""
        model = self._client.create_logged_model(run.experiment_id, name, source_run_id=run.id)
        path = sys.path.copy()
        try:
            Model.log(
                None,
                flavor=mlflow.pyfunc,
                model_id=model.model_id,
                run_id=run.id,
                step=step,
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={BUNDLE: str(bundle)},
                code_paths=[str(Path(protcli.__file__).parent)],
                signature=SIGNATURE,
                input_example=pd.DataFrame({"sequence": [EXAMPLE[:longest_chain]]}),
                # inferred ones take ten seconds, and a local build (2.14.0+cpu) is in no index
                pip_requirements=[f"{package}=={installed(package).split('+')[0]}" for package in PACKAGES],
            )
        finally:
            sys.path[:] = path  # MLflow tries the model, and leaves the folder of its code there
        return model.model_id

    def set_alias(self, version: Version, alias: str) -> None:
        """Point an alias to a version, and no longer to another."""
        self._client.set_registered_model_alias(version.name, alias, str(version.number))

    def tag(self, version: Version, values: Mapping[str, Any]) -> None:
        """Set tags of a version; a tag may be set again."""
        for key, value in values.items():
            self._client.set_model_version_tag(version.name, str(version.number), key, str(value))

    def download(self, version: Version, to: Path) -> Path:
        """The bundle of a version in a local folder. Raises ProtcliError where it has none."""
        try:
            return Path(mlflow.artifacts.download_artifacts(f"{version.uri}/artifacts/{BUNDLE}", dst_path=str(to)))
        except (MlflowException, OSError) as error:
            raise ProtcliError(f"{version.uri} holds no model that protcli promote has registered") from error


def _version(found: ModelVersion) -> Version:
    return Version(found.name, int(found.version), found.run_id or "", tuple(found.aliases), dict(found.tags))
