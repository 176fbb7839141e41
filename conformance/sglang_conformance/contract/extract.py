"""Read the contract out of a released SGLang package, from its source alone: nothing of it is imported."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from . import backends, callsites, deprecations, environment, members, syntax
from .errors import ContractError
from .model import Contract, Deprecation, Owner
from .source import Source, opened

__all__ = ["ContractError", "extract", "release_in", "release_of"]

_RESOLUTION = "srt/platforms/__init__.py"
_DEVICE_MIXIN = "srt/platforms/device_mixin.py"
_INTERFACE = "srt/platforms/interface.py"
_PLUGINS = "srt/plugins/__init__.py"
_ENVIRON = "srt/environ.py"
_PARALLEL_STATE = "srt/distributed/parallel_state.py"
_CONTRACT_MODULES = (_RESOLUTION, _DEVICE_MIXIN, _INTERFACE, _PLUGINS, _ENVIRON, _PARALLEL_STATE)
_OLDEST = "0.5.11"


def extract(path: Path, release: str = "") -> Contract:
    """The contract of the SGLang package at ``path``.

    ``path`` is a wheel, a folder that holds ``sglang/``, or that package's own folder; ``release`` is what it is known
    by, where that is not left to its own word. Members stand in the order of their definition, DeviceMixin's first;
    everything else without an order of its own is sorted. An attribute that holds an enum member, as ``_enum``, has the
    member's name as its default (``returns`` ``UNSPECIFIED``).

    Raises ContractError where there is no SGLang, where it is damaged, where it is older than the contract (before
    0.5.11), or where a part of the contract is written in a way that cannot be read.
    """
    with opened(Path(path)) as source:
        return _Reading(source, release).contract()


def release_in(path: Path) -> str:
    """The release that the package at ``path`` says it is; empty where it does not say. Raises as :func:`extract`."""
    with opened(path) as source:
        return _told_release(source)


class _Reading:
    """One package being read: its contract modules, parsed once."""

    def __init__(self, source: Source, release: str) -> None:
        self.source = source
        self.release = release or release_of(source)
        missing = [name for name in _CONTRACT_MODULES if not source.has(name)]
        if missing:
            raise ContractError(
                f"SGLang {self.release} at {source.origin} has no platform contract: sglang/{missing[0]} is missing"
                f" (the contract exists since {_OLDEST})"
            )
        self.modules = {name: _parsed(source, name) for name in _CONTRACT_MODULES}

    def contract(self) -> Contract:
        enums = {name: self._enum(name) for name in ("PlatformEnum", "CpuArchEnum")}
        classes: dict[Owner, ast.ClassDef] = {
            "DeviceMixin": self._class(_DEVICE_MIXIN, "DeviceMixin"),
            "SRTPlatform": self._class(_INTERFACE, "SRTPlatform"),
        }
        calls = callsites.call_sites(self.source, members.names(classes))
        table, lookup = self._backend_table(), self._backend_lookup()
        resolution, mixin, interface = (self.modules[n] for n in (_RESOLUTION, _DEVICE_MIXIN, _INTERFACE))
        readers = [resolution, mixin, interface, *self._plugin_modules(), table, lookup]
        return Contract(
            release=self.release,
            groups={
                "platforms": self._text(_PLUGINS, "PLATFORM_PLUGINS_GROUP"),
                "plugins": self._text(_PLUGINS, "GENERAL_PLUGINS_GROUP"),
            },
            environment=environment.variables(readers, self.modules[_ENVIRON]),
            platform_enum=enums["PlatformEnum"],
            cpu_arch_enum=enums["CpuArchEnum"],
            capabilities=_capabilities(interface),
            kv_pool_kinds=_kv_pool_kinds(interface),
            legacy_kv_pool_hooks=_legacy_kv_pool_hooks(interface),
            backends=backends.backend_table(table, lookup),
            detection=_detection(resolution),
            deprecations=self._deprecations(classes),
            members=members.members(classes, enums, calls),
        )

    def _deprecations(self, classes: Mapping[Owner, ast.ClassDef]) -> tuple[Deprecation, ...]:
        found: list[Deprecation] = []
        for name, owner in ((_DEVICE_MIXIN, classes["DeviceMixin"]), (_INTERFACE, classes["SRTPlatform"])):
            found += deprecations.of_members(owner, self.modules[name], name)
        found += deprecations.of_variables(self.modules[_ENVIRON], _ENVIRON)
        found += deprecations.of_targets(self.source)
        once = {(each.kind, each.name): each for each in reversed(found)}
        return tuple(once[key] for key in sorted(once))

    def _class(self, name: str, wanted: str) -> ast.ClassDef:
        node = syntax.class_named(self.modules[name], wanted)
        if node is None:
            raise ContractError(f"{self.source.origin}: sglang/{name} defines no class {wanted}")
        return node

    def _enum(self, wanted: str) -> tuple[str, ...]:
        body = self._class(_DEVICE_MIXIN, wanted).body
        return tuple(name for name, value in syntax.assignments(body) if value is not None)

    def _text(self, name: str, wanted: str) -> str:
        value = syntax.text(syntax.assigned(self.modules[name], wanted))
        if value is None:
            raise ContractError(f"{self.source.origin}: sglang/{name} gives {wanted} no text")
        return value

    def _plugin_modules(self) -> list[ast.Module]:
        return [_parsed(self.source, name) for name in self.source.names("srt/plugins")]

    def _backend_table(self) -> ast.Dict:
        # In device_mixin since 0.5.14, in parallel_state before.
        for name in (_DEVICE_MIXIN, _PARALLEL_STATE):
            value = syntax.assigned(self.modules[name], backends.TABLE)
            if isinstance(value, ast.Dict):
                return value
        raise ContractError(f"{self.source.origin}: no table {backends.TABLE} was found")

    def _backend_lookup(self) -> syntax.FunctionNode:
        node = syntax.function_named(self.modules[_PARALLEL_STATE], backends.LOOKUP)
        if node is None:
            raise ContractError(f"{self.source.origin}: sglang/{_PARALLEL_STATE} defines no {backends.LOOKUP}")
        return node


def _parsed(source: Source, name: str) -> ast.Module:
    return syntax.parse(source.read(name), f"sglang/{name}")


def release_of(source: Source) -> str:
    """The release that a package says it is; raises ContractError where it does not say."""
    release = _told_release(source)
    if not release:
        raise ContractError(
            f"cannot tell the release of {source.origin}: it has no sglang/_version.py or dist-info; "
            "write __version__ = '…' into that file of a checkout"
        )
    return release


def _told_release(source: Source) -> str:
    for name in ("_version.py", "version.py"):
        value = syntax.assigned(_parsed(source, name), "__version__") if source.has(name) else None
        release = syntax.text(value)
        if release:
            return release
    return source.distribution()


def _capabilities(interface: ast.Module) -> dict[str, bool]:
    """The fields of PlatformCapabilities with their defaults; empty before 0.5.22."""
    node = syntax.class_named(interface, "PlatformCapabilities")
    found = {}
    for name, value in syntax.assignments(node.body if node is not None else []):
        default = syntax.constant(value) if value is not None else syntax.NOT_CONSTANT
        if not isinstance(default, bool):
            raise ContractError(f"PlatformCapabilities.{name} has no default of True or False")
        found[name] = default
    return found


def _kv_pool_kinds(interface: ast.Module) -> tuple[str, ...]:
    """The values of the literal type KVPoolKind; empty before 0.5.22."""
    node = syntax.assigned(interface, "KVPoolKind")
    if not isinstance(node, ast.Subscript):
        return ()
    values = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return tuple(value for value in map(syntax.text, values) if value is not None)


def _legacy_kv_pool_hooks(interface: ast.Module) -> dict[str, str]:
    """The superseded method that still answers for each KV pool kind; empty before 0.5.22."""
    node = syntax.assigned(interface, "_LEGACY_KV_POOL_HOOKS")
    value = syntax.constant(node) if node is not None else {}
    if not isinstance(value, dict):
        raise ContractError("_LEGACY_KV_POOL_HOOKS is no literal dictionary")
    return value


def _detection(resolution: ast.Module) -> tuple[str, ...]:
    """The built-in platforms in the order in which ``_resolve_platform`` tries them, by the name of their module."""
    resolve = syntax.function_named(resolution, "_resolve_platform")
    if resolve is None:
        raise ContractError(f"sglang/{_RESOLUTION} defines no _resolve_platform")
    built_in = {
        alias.asname or alias.name: node.module.rpartition(".")[2]
        for node in ast.walk(resolution)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sglang.srt.platforms.")
        for alias in node.names
    }
    returned = [n.value for n in ast.walk(resolve) if isinstance(n, ast.Return)]
    made = sorted((n for n in returned if isinstance(n, ast.Call)), key=lambda call: call.lineno)
    tried = (built_in.get(syntax.last_name(call.func), "") for call in made)
    return tuple(dict.fromkeys(name for name in tried if name not in ("", "interface")))
