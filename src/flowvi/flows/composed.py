"""Several flows as one: their chains, one after the other, over one base."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flowvi.errors import ConfigError, ShapeError
from flowvi.flows.flow import Flow

__all__ = ["Composed", "compose"]


class Composed(Flow):
    """The chains of several flows over one base, the first flow's next to it.

    The base is the first flow's; those of the others are left out. The flows themselves are not copied: their chains
    are shared with the composition.

    Args:
        flows: one or more flows of the same features and context.

    Raises:
        ConfigError: what is no flow of flowvi's.
        ShapeError: no flows, or flows of different features or context.

    Example:
        >>> from flowvi.flows import Planar, Radial
        >>> flow = Composed([Planar(2, length=4), Radial(2, length=4)])
        >>> flow().sample((5,)).shape
        torch.Size([5, 2])
    """

    def __init__(self, flows: Iterable[Flow]) -> None:
        flows = list(flows)
        for flow in flows:
            if not isinstance(flow, Flow):
                found = type(flow).__name__
                raise ConfigError(f"found {found}: expected flows of flowvi's (zuko's as flowvi.flows.Zuko)")
        sizes = list(dict.fromkeys((flow.features, flow.context) for flow in flows))
        if len(sizes) != 1:
            found = ", ".join(f"{features} and {context}" for features, context in sizes) or "none"
            raise ShapeError(f"flows of (features and context) {found}: expected one or more of the same")
        features, context = sizes[0]
        links: list[Any] = [link for flow in flows for link in flow.links]
        super().__init__(features, context, links)
        self.base = flows[0].base


def compose(features: int, context: int, length: int, *, kinds: Sequence[str], **options: Any) -> Composed:
    """A composition of flows by their kinds: `length` layers of each, options given to all that take them."""
    from flowvi.flows import build
    from flowvi.flows.registry import family

    flows = []
    for kind in kinds:
        entry = family(kind)
        own = {name: value for name, value in options.items() if name in entry.options}
        taken = {name: value for name, value in own.items() if entry.options[name].allowed.take(value)}
        flows.append(build(kind, features, context, length if entry.chain else 0, **taken))
    return Composed(flows)
