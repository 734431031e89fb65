"""Whether a family of flows is right: every property that it must have, checked and put in a table.

    python -m flowvi.flows.audit                                    every registered family
    python -m flowvi.flows.audit sylvester variant=householder      one kind, with options
    python -m flowvi.flows.audit my_package.flows:MyFlow            your own constructor

`PROPERTIES` lists the properties; what each means stands in the docstring of its check. A constructor takes `features`,
`context` and `length` and gives a `flowvi.flows.Flow`. One that has an option `init="identity"` is held to it. A chain
may declare numbers that have no gradient by an attribute `idle`: see `flowvi.flows.audit.gradients.idle`.
"""

from __future__ import annotations

from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.properties import PROPERTIES, Sizes, settings
from flowvi.flows.audit.subjects import Subject, find, registered
from flowvi.flows.audit.table import audit, render

__all__ = ["PROPERTIES", "Finding", "Sizes", "Subject", "audit", "find", "registered", "render", "settings"]
