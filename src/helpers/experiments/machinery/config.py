"""Settings of an experiment: frozen dataclasses that refuse what makes no sense, and ``--set key=value``."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A setting that is unknown, not of its type, or out of range; the message says which and what is allowed."""


@dataclass(frozen=True)
class Config:
    """Base of all settings. Fields are int, float, str, bool, ``X | None`` or tuples of these.

    Numbers must be finite, and positive unless the field is named in ``may_be_zero``.

    Attributes:
        memory: the settings on which the memory of a row depends, the heaviest first; here those of an experiment that
            trains k networks and measures them, of which a config has some. Others name theirs.
    """

    memory: ClassVar[tuple[str, ...]] = ("width", "widths", "k", "n", "n_val", "n_test", "pool", "batch_size")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            for item in value if isinstance(value, tuple) else (value,):
                self._check_number(name, item)
            if isinstance(value, tuple) and not value:
                raise ConfigError(f"{name} needs at least one value")
            if isinstance(value, tuple) and len(set(value)) < len(value):
                raise ConfigError(f"{name} gives a value twice; give each once")

    @property
    def may_be_zero(self) -> frozenset[str]:
        return frozenset({"seeds", "momentum", "weight_decay"})

    @property
    def costs_memory(self) -> list[str]:
        """The settings that a row which runs out of memory asks to lower."""
        return [name for name in self.memory if name in {f.name for f in fields(self)}]

    def _check_number(self, name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        least = "zero or more" if name in self.may_be_zero else "positive"
        if abs(value) > 1e15 and value != float("inf"):
            raise ConfigError(f"{name} is beyond anything this code can run: give a number below 1e15")
        if 0 < abs(value) < 1e-15:
            raise ConfigError(f"{name} is finer than float64 resolves: give a number above 1e-15, got {value}")
        if not isfinite(value) or value < 0 or (value == 0 and name not in self.may_be_zero):
            raise ConfigError(f"{name} must be finite and {least}, got {value}")

    def as_json(self) -> dict[str, Any]:
        """The settings with tuples as lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Self:
        """The inverse of ``as_json``.

        Raises:
            ConfigError: if a field is missing, unknown, of another type, or out of range.
        """
        hints = {f.name: get_type_hints(cls)[f.name] for f in fields(cls)}
        if differing := sorted(set(hints) ^ set(settings)):
            raise ConfigError(f"the settings {', '.join(differing)} are missing or unknown")
        for name, value in settings.items():
            if not _fits(value, hints[name]):
                raise ConfigError(f"{name} has a value of the wrong type, {value!r:.80}")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})

    def with_settings(self, settings: Mapping[str, str]) -> Self:
        """A copy with some fields replaced, from text as the command line gives it; lists are comma-separated.

        Raises:
            ConfigError: if a field is unknown or a value does not fit its type or range.
        """
        hints = get_type_hints(type(self))
        known = [f.name for f in fields(self)]
        changes = {}
        for key, text in settings.items():
            if key not in known:
                raise ConfigError(f"there is no setting {key!r}; choose from {', '.join(known)}")
            changes[key] = _parse(key, text, hints[key])
        return replace(self, **changes)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the type of a field; a whole number may stand for a float, never a truth value."""
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, int | float if hint is float else hint)


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """["key=value", ...] to a dictionary.

    Raises:
        ConfigError: if a pair has no "=" or a key comes twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, got {pair!r}")
        if key in settings:
            raise ConfigError(f"--set gives {key!r} twice; give it once")
        settings[key] = value
    return settings


def _parse(name: str, text: str, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return tuple(_parse(name, part.strip(), item) for part in text.split(",") if part.strip())
    if isinstance(hint, types.UnionType):
        if text.lower() == "none":
            return None
        hint = next(option for option in get_args(hint) if option is not type(None))
    if hint is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ConfigError(f"{name} takes true or false, got {text!r}")
    try:
        return hint(text)
    except (ValueError, OverflowError) as error:
        kind = {"int": "a whole number", "float": "a number"}.get(hint.__name__, hint.__name__)
        raise ConfigError(f"{name} takes {kind}, got {text[:80]!r}") from error
