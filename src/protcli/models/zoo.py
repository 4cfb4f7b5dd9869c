"""All models by name, and a model's configuration as text and as plain values."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError, did_you_mean, quote
from protcli.models import crossattn, improved, pairmix, psp, psp2, sepmean, simple
from protcli.models.external import as_user_error, entry_point_names, load_entry_point, load_model_file
from protcli.models.settings import from_text, replace_settings, setting_types
from protcli.models.spec import ModelSpec
from protcli.yaml_file import describe

ZOO: dict[str, ModelSpec] = {
    spec.name: spec for family in (sepmean, simple, improved, crossattn, psp, psp2, pairmix) for spec in family.SPECS
}


def known_models(model_file: Path | None = None) -> dict[str, ModelSpec]:
    """All models that `find_model` finds, by name. Raises ProtcliError as it does."""
    known = {**ZOO, **_models_of(model_file)}
    return known | {name: load_entry_point(name) for name in entry_point_names() if name not in known}


def find_model(name: str, model_file: Path | None = None) -> ModelSpec:
    """The model with this name: built-in, else defined by `model_file`, else from an installed package.

    Raises:
        ProtcliError: there is none (the message lists known and closest names), or the file or package does not load.
    """
    specs, provided = {**ZOO, **_models_of(model_file)}, entry_point_names()
    if name in specs:
        return specs[name]
    if name in provided:
        return load_entry_point(name)
    known = list(dict.fromkeys([*specs, *provided]))
    raise ProtcliError(f"there is no model {quote(name)}{did_you_mean(name, known)}; known: {', '.join(known)}")


def _models_of(model_file: Path | None) -> dict[str, ModelSpec]:
    specs = load_model_file(model_file) if model_file is not None else {}
    for name in specs:
        if name in ZOO:
            raise ProtcliError(f"{model_file}: {name!r} is the name of a built-in model; choose another")
    return specs


def configure(spec: ModelSpec, settings: Sequence[str]) -> ModelSpec:
    """The model with settings overridden, each `name=value` (a tuple as 128,64,32; true or false; none).

    Raises:
        ProtcliError: the setting does not exist, or the value has the wrong type; the message lists the settings.
    """
    types, values = setting_types(spec.config), {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ProtcliError(f"--set {setting}: expected name=value")
        values[name] = from_text(text, types.get(name, str))
    return with_config(spec, values)


def with_config(spec: ModelSpec, values: Mapping[str, Any]) -> ModelSpec:
    """The model with fields of its config replaced by plain values, as `config_dict` gives them.

    Raises:
        ProtcliError: as `configure` does, or if the config itself rejects the values.
    """
    types = setting_types(spec.config)
    for name in values:
        if name not in types:
            listed = (f"{each} ({describe(kind)}, now {getattr(spec.config, each)!r})" for each, kind in types.items())
            raise ProtcliError(
                f"{spec.name} has no setting {quote(name)}{did_you_mean(name, types)}; "
                f"settings: {', '.join(listed) or 'none'}"
            )
    with as_user_error(spec):
        try:
            return dataclasses.replace(spec, config=replace_settings(spec.config, values))
        except (ValueError, TypeError) as error:
            raise ProtcliError(f"{spec.name}: {error}") from None


def config_dict(spec: ModelSpec) -> dict[str, Any]:
    """The config as plain values for JSON and YAML: tuples become lists; `later` settings that are off are left out.

    `with_config` reverses it.
    """

    def plain(value: Any) -> Any:
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    off = {each.name for each in dataclasses.fields(spec.config) if each.metadata.get("later")}
    values = {name: getattr(spec.config, name) for name in setting_types(spec.config)}
    return {name: plain(value) for name, value in values.items() if value or name not in off}
