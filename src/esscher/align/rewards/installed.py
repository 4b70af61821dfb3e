"""Rewards that other packages bring: the entry points of the group `esscher.rewards`."""

from __future__ import annotations

from importlib.metadata import entry_points

from esscher.core.batch import BatchFunction
from esscher.errors import ConfigError

__all__ = ["GROUP", "installed_names", "installed_reward"]

GROUP = "esscher.rewards"


def installed_names() -> list[str]:
    """The names there are, sorted."""
    return sorted(entry_points(group=GROUP).names)


def installed_reward(name: str) -> BatchFunction | None:
    """The reward function of that name, None where no installed package has one.

    Raises:
        ConfigError: if two packages have one, or it cannot be imported or called.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        return None
    if len({point.value for point in found}) > 1:
        values = ", ".join(sorted(point.value for point in found))
        raise ConfigError(
            f"reward {name!r} is in {GROUP} more than once ({values}); name one as module:function"
        )
    try:
        function = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"reward {name!r} is installed as {found[0].value}, which cannot be imported: {error}"
        ) from error
    if not callable(function):
        raise ConfigError(
            f"reward {name!r} is installed as {found[0].value}, a {type(function).__name__}, not a "
            "function"
        )
    return function  # type: ignore[no-any-return]
