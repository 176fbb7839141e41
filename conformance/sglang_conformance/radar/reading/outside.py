"""Whether SGLang's class lacks a member for certain, although it has bases whose text is not SGLang's."""

from __future__ import annotations

import builtins
import enum
from collections.abc import Callable, Collection

from ...contract.index import Index, Resolved, inside

# The public names of torch.nn.Module (torch 2.13), and those of its private ones that others override.
_MODULE = frozenset(
    [
        "T_destination",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "xpu",
        "zero_grad",
        "_apply",
        "_call_impl",
        "_get_name",
        "_load_from_state_dict",
        "_named_members",
        "_save_to_state_dict",
        "_version",
        "_wrapped_call_impl",
    ]
)
_MODELS = frozenset({"construct", "copy", "dict", "from_orm", "json", "schema", "schema_json", "validate"})
_NAMES: dict[str, frozenset[str]] = {
    "torch.nn.Module": _MODULE,
    "torch.nn.modules.module.Module": _MODULE,
    "pydantic.BaseModel": _MODELS | {"parse_file", "parse_obj", "parse_raw", "update_forward_refs"},
    "msgspec.Struct": frozenset(),
    "abc.ABC": frozenset(),
    "typing.Generic": frozenset(),
    "typing.Protocol": frozenset(),
    "typing.NamedTuple": frozenset((*dir(tuple), "_fields", "_make", "_replace", "_asdict", "_field_defaults")),
    "typing.TypedDict": frozenset(dir(dict)),
}
_PREFIXES = {"pydantic.BaseModel": "model_"}


def lacks(index: Index, owner: str, name: str, named: Callable[[str], Collection[str]]) -> bool:
    """Whether a class of SGLang's certainly has no member of that name, in its own body or in any base.

    Bases outside SGLang are known by the names that they have; one that SGLang binds in several ways has what any class
    of that name has, which ``named`` finds.
    """
    if name.startswith("__"):
        return False
    found = index.resolve(owner)
    if not isinstance(found, Resolved) or found.symbol.kind != "class":
        return False
    return all(_lacks(index, base, name, named) for base in index.lineage(found.path))


def _lacks(index: Index, base: str, name: str, named: Callable[[str], Collection[str]]) -> bool:
    symbol = index.symbols.get(base)
    if symbol is not None and symbol.kind == "class":
        return not symbol.open and f"{base}.{name}" not in index.symbols
    if symbol is not None and symbol.kind == "name" and not symbol.origin:
        alike = [path for path in named(base.rpartition(".")[2]) if path in index.symbols]
        classes = [path for path in alike if index.symbols[path].kind == "class"]
        return bool(classes) and all(_lacks(index, path, name, named) for path in classes)
    if inside(base):
        return False
    names = _outside(base)
    return names is not None and name not in names and not name.startswith(_PREFIXES.get(base, "\n"))


def _outside(base: str) -> frozenset[str] | None:
    if base in _NAMES:
        return _NAMES[base]
    module, _, name = base.rpartition(".")
    holder = {"builtins": builtins, "": builtins, "enum": enum}.get(module)
    found = getattr(holder, name, None) if holder is not None else None
    return frozenset(dir(found)) if isinstance(found, type) else None


def ending(index: Index, name: str) -> tuple[str, ...]:
    """Every path of a release that ends in a name."""
    suffix = f".{name}"
    return tuple(path for path in index.symbols if path.endswith(suffix))
