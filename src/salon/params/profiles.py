"""A profile is a small YAML file of `profiles/` that holds only what differs from `params.yaml`."""

import io
from collections.abc import Mapping
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from salon.errors import SalonError
from salon.params import Params, load_params, parse_section
from salon.params.section import rename_keys
from salon.paths import Paths


def profile_names(paths: Paths) -> list[str]:
    """Profiles that this workspace has."""
    return sorted(path.stem for path in paths.profiles.glob("*.yaml"))


def lay_over(paths: Paths, name: str) -> tuple[str, Params]:
    """`params.yaml` with the profile laid over it, comments kept: as text, and checked. Nothing is written.

    Mappings are merged key by key; lists and plain values are replaced.

    Raises:
        SalonError: there is no such profile, or the result has an unknown key or a value out of range.
    """
    path = paths.profiles / f"{name}.yaml"
    if name not in (known := profile_names(paths)):
        raise SalonError(f"{path} does not exist: known profiles are {', '.join(known) or 'none'}")
    load_params(paths.params)  # a broken base is reported as such
    round_trip = YAML()
    round_trip.indent(mapping=2, sequence=4, offset=2)
    round_trip.preserve_quotes = True
    round_trip.width = 4096  # never wrap a line that a person wrote
    try:
        profile = round_trip.load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise SalonError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(profile, Mapping):
        raise SalonError(f"{path}: expected a mapping, found {type(profile).__name__}")
    document = round_trip.load(paths.params.read_text(encoding="utf-8"))
    for layer, file in ((document, paths.params), (profile, path)):  # or a value would stand under two names
        rename_keys(Params, layer, where=str(file))
    _merge(document, profile)
    round_trip.dump(document, buffer := io.StringIO())
    text = buffer.getvalue()
    return text, parse_section(Params, yaml.safe_load(text), where=f"{paths.params} with {path}")


def _merge(base: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            _merge(base[key], value)
        else:
            base[key] = value
