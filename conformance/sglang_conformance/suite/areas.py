"""The areas of the suite: the modules that hold checks, in the order in which they run.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib

from .declare import ATTRIBUTE, Check

AREAS = (
    "packaging",
    "activation",
    "selection",
    "identity",
    "device",
    "memory",
    "capabilities",
    "factories",
    "pools_and_allocators",
    "operators",
    "made",
    "arguments",
    "initialisation",
    "hooks",
    "backend",
    "groups",
    "further_groups",
    "layouts",
    "lifetimes",
    "collectives",
    "gathers",
    "collective_tensors",
    "collective_inputs",
    "collectives_in_groups",
    "exchanges",
    "torch_collectives",
    "torch_exchanges",
    "torch_in_groups",
    "collective_order",
    "pynccl",
    "pynccl_collectives",
    "pynccl_in_groups",
    "pynccl_library",
    "custom_all_reduce_choice",
    "custom_all_reduce",
    "custom_all_reduce_tensors",
    "custom_all_reduce_values",
    "custom_all_reduce_order",
    "custom_all_reduce_lives",
    "graphs",
    "graph_backend",
    "graph_scopes",
    "graphs_in_groups",
    "graph_ends",
    "journey",
    "journey_roles",
    "journey_on_ranks",
    "journey_graphs",
    "journey_pressure",
    "interface",
)

SERVING = frozenset({"journey", "journey_on_ranks", "journey_graphs", "journey_pressure"})
"""The areas whose checks have models served: what they need of the host takes long to import."""

MAKING = frozenset({"pools_and_allocators", "operators", "made"})
"""The areas whose checks make parts of a server alone: what they need of the host is imported with what serves."""

LAUNCHING = frozenset({"journey_roles"})
"""The areas whose checks look at a server that was started once, in processes of its own."""


def module_name(area: str) -> str:
    """The module that holds an area's checks."""
    return f"{__package__}.{area}"


def checks(area: str) -> tuple[Check, ...]:
    """The checks of an area, in the order in which they are written."""
    module = importlib.import_module(module_name(area))
    declared = (getattr(member, ATTRIBUTE, None) for member in vars(module).values())
    return tuple(check for check in declared if check is not None and check.module == module.__name__)


def all_checks() -> tuple[Check, ...]:
    """Every check of the suite."""
    return tuple(check for area in AREAS for check in checks(area))
