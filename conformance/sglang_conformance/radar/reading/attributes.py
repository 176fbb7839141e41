"""What the attributes of things come to: SGLang's, the plugin's own, and those of what is neither."""

from __future__ import annotations

import ast

from . import constants
from .classes import Lineage, lookup
from .frames import Frames
from .host import BASES, CAPABILITIES, CURRENT, MIXIN
from .values import (
    UNKNOWN,
    Bound,
    Class,
    Const,
    External,
    Func,
    Host,
    Instance,
    PluginModule,
    Release,
    Scope,
    Seq,
    Signature,
    Super,
    Value,
    alternatives,
)

_VERSIONS = frozenset({f"sglang.{path}__version__" for path in ("", "version.", "_version.")})

_ENVS = "sglang.srt.environ.envs"

_NAMED = frozenset({"__module__", "__name__", "__qualname__"})

_CAN_BE_READ = ("module", "class")


class Attributes(Frames):
    """Looks attributes up; what SGLang certainly lacks is noted."""

    def call(self, function: Func, places: list[Value], names: dict[str, Value], of: Class | None = None) -> Value:
        """Walk a function of the plugin as it is called here, and give what it returns."""
        raise NotImplementedError

    def module(self, name: str) -> Scope:
        """Walk a module of the plugin, once, and give its names."""
        raise NotImplementedError

    def use(self, value: Value) -> Value:
        """Note that a value is used otherwise than by a call."""
        raise NotImplementedError

    def above(self) -> Value:
        """What ``super()`` is in the function that is being walked."""
        raise NotImplementedError

    def attribute(self, holder: Value, name: str, node: ast.AST) -> Value:
        """What an attribute comes to; one that SGLang certainly lacks is noted, and ends the block that guards it."""
        if isinstance(holder, Host):
            return self._of_host(holder, name, node)
        if isinstance(holder, PluginModule):
            return self._of_module(holder.name, name)
        if isinstance(holder, (Class, Instance, Super)):
            return self._of_class(holder, name, node)
        self.mentioned.add(name)
        if isinstance(holder, Const) and name == "value":
            return holder  # a member of an enum, which is taken for its value
        if isinstance(holder, Release):
            return constants.attribute(holder, name)
        if isinstance(holder, Signature) and name == "parameters":
            return Seq(tuple(map(Const, holder.names)))
        if isinstance(holder, External):
            self.doubt()
            return External(f"{holder.path}.{name}".removeprefix("builtins."))
        self.doubt()
        return UNKNOWN

    def _of_host(self, holder: Host, name: str, node: ast.AST) -> Value:
        path = f"{holder.path}.{name}"
        if path in _VERSIONS:
            return Const(self.release.name)
        if holder.path == f"{MIXIN}.PlatformEnum" and name == "__members__":
            return Seq(tuple(map(Const, self.release.contract.platform_enum)))
        if holder.path == CAPABILITIES and name in ("__struct_fields__", "__annotations__"):
            return Seq(tuple(map(Const, self.release.contract.capabilities)))
        if holder.path.endswith(CURRENT):
            return self._asked(name, node)
        if holder.path == _ENVS:
            path = f"sglang.srt.environ.Envs.{name}"
        elif holder.symbol is None or holder.symbol.kind not in _CAN_BE_READ or name.startswith("__"):
            self.mentioned.add(name)
            self.doubt()
            return UNKNOWN
        found = self.release.find(path)
        if found is None:
            self.missing("attribute", path, node)
            return UNKNOWN
        self.outdated(path, node)
        return found

    def _asked(self, name: str, node: ast.AST) -> Value:
        """A member of the platform in use: the plugin's own, where its class has it."""
        self.mentioned.add(name)
        known = self.release.contract.has(name) or not self.is_member(name)
        has_it = any(lookup(self.lineage(of), name, self.release) for of in self.facts.platforms)
        if not known and not has_it:
            self.missing("attribute", f"{BASES[0]}.{name}", node)
        self.doubt()
        return (self.release.find(CAPABILITIES) if name == "capabilities" else None) or UNKNOWN

    def member_of(self, module: str, name: str) -> Value | None:
        """What a module of the plugin has under a name, also by its ``__getattr__``; None where it has nothing."""
        names = self.module(module).names
        if name in names:
            return names[name]
        asked = names.get("__getattr__")
        if asked is not None and not name.startswith("__"):
            return self.call(asked, [Const(name)], {}) if isinstance(asked, Func) else UNKNOWN
        return None

    def _of_module(self, module: str, name: str) -> Value:
        if f"{module}.{name}" in self.code.modules and name not in self.module(module).names:
            return PluginModule(f"{module}.{name}")
        found = self.member_of(module, name)
        return UNKNOWN if found is None else found

    def _of_class(self, holder: Class | Instance | Super, name: str, node: ast.AST) -> Value:
        self.mentioned.add(name)
        of = holder if isinstance(holder, Class) else holder.of
        if isinstance(holder, Instance) and name in dict(holder.fields):
            return dict(holder.fields)[name]
        if isinstance(holder, Class) and name in _NAMED:
            return Const(of.module if name == "__module__" else of.name)
        lineage = self.lineage(of)
        found = lookup(lineage, name, self.release, after=_after(holder))
        if found is None:
            gone = self._gone_from(holder, name)
            if gone:
                self.missing("attribute", gone, node)
            self.doubt()
            return UNKNOWN
        value = found.value
        if isinstance(value, Func) and (not isinstance(holder, Class) or "classmethod" in value.marks):
            if "property" not in value.marks:
                return Bound(value, of)
            return self.call(value, [holder if isinstance(holder, Instance) else Instance(of)], {}, of)
        if isinstance(value, Host) and not isinstance(holder, Class):
            return value if value.symbol is not None and value.symbol.kind in ("method", "classmethod") else UNKNOWN
        return value

    def _gone_from(self, holder: Class | Instance | Super, name: str) -> str:
        """Where another release has the member that an object is asked for; empty where that cannot be told."""
        of = holder if isinstance(holder, Class) else holder.of
        lineage = self.lineage(of)
        unseen = lineage.open and not self._lacks(lineage, name)
        if unseen or (lineage.sets(name) and not isinstance(holder, Super)) or name.startswith("__"):
            return ""
        bases = [step for step in lineage.steps if isinstance(step, str)]
        return next((f"{base}.{name}" for base in bases if self.history.is_method(f"{base}.{name}")), "")

    def _lacks(self, of: Lineage, name: str) -> bool:
        """Whether none of SGLang's classes that the plugin's own derive from has a member, and they have no others."""
        bases = [each for step in of.steps if isinstance(step, Class) for b in step.bases for each in alternatives(b)]
        hosts = [base for base in bases if isinstance(base, Host)]
        known = all(isinstance(base, (Host, Class)) for base in bases)
        return known and all(self.release.find(f"{host.path}.{name}") is None for host in hosts)

    def has(self, holder: Value, name: str) -> bool | None:
        """Whether something has an attribute; None where that cannot be told."""
        if isinstance(holder, Host):
            if holder.path.endswith(CURRENT):
                return True if self.release.contract.has(name) else False if self.is_member(name) else None
            if holder.path == _ENVS:
                return self.release.find(f"sglang.srt.environ.Envs.{name}") is not None
            if holder.symbol is None or holder.symbol.kind not in _CAN_BE_READ:
                return None
            found = self.release.find(f"{holder.path}.{name}")
            return (
                None
                if found is not None and found.symbol is None and not self._is_listed(holder)
                else found is not None
            )
        if isinstance(holder, (Class, Instance, Super)):
            of = holder if isinstance(holder, Class) else holder.of
            lineage = self.lineage(of)
            if lookup(lineage, name, self.release, after=_after(holder)) is not None:
                return True
            return False if self._gone_from(holder, name) else None
        if isinstance(holder, PluginModule):
            return name in self.module(holder.name).names
        return None

    @staticmethod
    def _is_listed(holder: Host) -> bool:
        return holder.path in (CAPABILITIES, f"{MIXIN}.PlatformEnum", f"{MIXIN}.CpuArchEnum")


def _after(holder: Class | Instance | Super) -> Class | None:
    return holder.after if isinstance(holder, Super) else None
