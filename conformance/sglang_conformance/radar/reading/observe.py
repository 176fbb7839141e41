"""Walk a plugin from where SGLang comes to it: its platform, what core asks of that, its hooks; then the rest."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping

from ..plugin import PLATFORMS, PLUGINS, EntryPoint, Plugin
from .asked import DECIDING, is_asked
from .classes import own
from .code import Code
from .facts import Place, Reach, Registration
from .frames import Raised, TooMuch
from .history import History
from .seen import Live, LiveHook, Returned, Seen
from .values import UNKNOWN, Bound, Class, Const, Func, Value, alternatives, either
from .walk import Walk

POOL = "get_kv_pool_cls"
# A chain of imports takes some ten frames of the walk for each module.
_DEEP = 6000


def observe(plugin: Plugin, code: Code, history: History, release: str, live: Live | None = None) -> Seen:
    """Walk a plugin as one release would run it; ``live`` is what running it has told besides."""
    return _Observer(plugin, code, history, release).run(live or Live())


class _Observer:
    def __init__(self, plugin: Plugin, code: Code, history: History, release: str) -> None:
        self.plugin = plugin
        self.walk = Walk(code, history, release)
        self.wrong: list[tuple[str, Place]] = []
        self.not_judged: dict[str, None] = {}
        self.returned: list[Returned] = []
        self.done: set[int] = set()

    def run(self, live: Live) -> Seen:
        walk = self.walk
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _DEEP))
        try:
            self._platforms(live.classes)
            self._members()
            self._hooks(live.hooks)
            self._drain()
            self._rest()
            self._drain()
        except TooMuch:
            self.not_judged["the plugin is too large to be walked whole: a part of it is not judged"] = None
        finally:
            sys.setrecursionlimit(limit)
        self.not_judged.update(dict.fromkeys(f"{place}: too deeply nested to be walked" for place in walk.too_deep))
        lineages = tuple(walk.lineage(of) for of in walk.facts.platforms)
        return Seen(
            self.plugin,
            walk.code,
            walk.history,
            walk.release,
            walk.facts,
            lineages,
            tuple(self.returned),
            tuple(self.wrong),
            (*self.not_judged, *live.failed),
        )

    # ---- the platform

    def _platforms(self, classes: tuple[str, ...]) -> None:
        named = dict.fromkeys(classes)
        reach = Reach("platform")
        for point in self.plugin.points(PLATFORMS):
            value, place = self._entered(point, reach)
            texts = [v.value for v in alternatives(value) if isinstance(v, Const) and isinstance(v.value, str)]
            untold = [] if texts else [f"which class {point.value} gives"]
            for text in texts:
                there = self._at(text, reach)
                if there is UNKNOWN:
                    untold.append(f"what {text} is")
                elif _class_of(there) is None and not classes:
                    self.wrong.append((text, place))
            named.update(dict.fromkeys(texts))
            for what in untold if not classes else ():
                self.not_judged[f"{place}: {what} is not told by reading; looked for by its base"] = None
        found = [of for text in named if (of := _class_of(self._at(text, reach))) is not None]
        if not found and self.plugin.points(PLATFORMS):
            found = list(self._by_base())
            if not found and not self.wrong:
                self.not_judged["no platform class was found: what core asks of it is not judged"] = None
        self.walk.facts.platforms.extend(dict.fromkeys(found))

    def _entered(self, point: EntryPoint, reach: Reach) -> tuple[Value, Place]:
        """What an entry point's function gives, and where it stands."""
        walk = self.walk
        if point.module not in walk.code.modules:
            return Const(None), Place(point.where, 1)
        walk.reach = reach
        place = Place(walk.code.modules[point.module].file.name, 1)
        function = self._in_module(point.module, point.attribute, reach)
        for each in alternatives(function) if function is not None else ():
            of = each.of if isinstance(each, Bound) else None
            called = each.function if isinstance(each, Bound) else each
            if isinstance(called, Func):
                self.done.add(id(called.node))
                return walk.alone(called, of, reach), Place(place.file, called.node.lineno)
        return UNKNOWN, place

    def _module(self, name: str, reach: Reach) -> Mapping[str, Value]:
        before, self.walk.reach = self.walk.reach, reach
        try:
            return self.walk.module(name).names
        except Raised:
            return {}
        finally:
            self.walk.reach = before

    def _at(self, text: str, reach: Reach) -> Value | None:
        """What a dotted path into the plugin leads to, a colon being no more than a dot; None where nothing is."""
        parts = text.replace(":", ".").split(".")
        for end in range(len(parts) - 1, 0, -1):
            if (module := ".".join(parts[:end])) in self.walk.code.modules:
                return self._in_module(module, ".".join(parts[end:]), reach)
        return None

    def _in_module(self, module: str, path: str, reach: Reach) -> Value | None:
        """What a module of the plugin has at a dotted path; None where it has nothing there."""
        first, _, rest = path.partition(".")
        before, self.walk.reach = self.walk.reach, reach
        try:
            found = self.walk.member_of(module, first)
            if found is None:
                return None
            for name in rest.split(".") if rest else ():
                found = either([self.walk.attribute(each, name, ast.Pass()) for each in alternatives(found)])
            return found
        except Raised:
            return None
        finally:
            self.walk.reach = before

    def _by_base(self) -> Iterator[Class]:
        """The plugin's classes that derive from SGLang's platform, and that no other of them derives from."""
        for name in self.walk.code.modules:
            self._module(name, Reach("platform", sure=False))
        platforms = [of for of in self.walk.facts.classes if self.walk.lineage(of).is_platform]
        bases = {step for of in platforms for step in self.walk.lineage(of).steps[1:]}
        return (of for of in platforms if of not in bases)

    def _members(self) -> None:
        """What core calls of the platform, as it calls it."""
        contract = self.walk.release.contract
        asked = [
            (m.name, kind) for m in contract.called() for kind in (contract.kv_pool_kinds if m.name == POOL else ("",))
        ]
        asked.sort(key=lambda each: each[0] not in DECIDING)
        for of in self.walk.facts.platforms:
            answers: dict[str, Value] = {}
            lineage = self.walk.lineage(of)
            # The default of the one asks the others (0.5.22, srt/platforms/interface.py).
            legacy = contract.legacy_kv_pool_hooks if own(lineage, POOL) is None else {}
            for name, kind in (*asked, *((hook, kind) for kind, hook in legacy.items())):
                found = own(lineage, name)
                if found is None or not isinstance(found.value, Func):
                    continue
                if is_asked(name, lineage, self.walk.release, answers):
                    self.done.add(id(found.value.node))
                    names: dict[str, Value] = {"kind": Const(kind)} if name == POOL else {}
                    answers[name] = self.walk.alone(found.value, of, Reach("platform"), names)
                    self.returned.append(Returned(of, name, kind, found.value, answers[name]))

    # ---- the hooks

    def _hooks(self, live: tuple[LiveHook, ...]) -> None:
        for point in self.plugin.points(PLUGINS):
            self._entered(point, Reach("hooks"))
        self.walk.facts.registrations.extend(self._unseen(live))
        for registration in self.walk.facts.registrations:
            for hook in alternatives(registration.hook):
                if isinstance(hook, (Func, Bound)):
                    function = hook.function if isinstance(hook, Bound) else hook
                    self.done.add(id(function.node))
                    of = hook.of if isinstance(hook, Bound) else None
                    self.walk.alone(function, of, Reach("hook", registration.reach.sure))

    def _unseen(self, live: tuple[LiveHook, ...]) -> Iterator[Registration]:
        """The hooks that were registered and that reading has not told."""
        told = {registration.target for registration in self.walk.facts.registrations}
        for hook in live:
            if hook.target in told:
                continue
            known = hook.module in self.walk.code.modules
            value = self._module(hook.module, Reach("hooks")).get(hook.name, UNKNOWN) if known else UNKNOWN
            module = hook.module if known else next((p.module for p in self.plugin.points(PLUGINS)), "")
            name = self.walk.code.modules[module].file.name if module in self.walk.code.modules else hook.module
            line = value.node.lineno if isinstance(value, (Func, Class)) else 1
            yield Registration(hook.target, hook.type, value, Place(name, line), Reach("hooks"), ast.Pass())

    # ---- what is left

    def _drain(self) -> None:
        """Walk what was handed on: somebody calls it."""
        while self.walk.waiting:
            function, of, reach = self.walk.waiting.pop()
            if id(function.node) not in self.done:
                self.done.add(id(function.node))
                self.walk.alone(function, of, reach)

    def _rest(self) -> None:
        """Walk modules and functions that the plugin never speaks of: they are found in another way, if at all."""
        code, reach = self.walk.code, Reach("other", sure=False)
        for name in code.modules:
            if name not in code.imported:
                self._module(name, reach)
        before = -1
        while before != len(self.done):
            before = len(self.done)
            for function, of in list(self.walk.defined):
                if id(function.node) not in self.done and self._may_be_called(function, of):
                    self.done.add(id(function.node))
                    self.walk.alone(function, of, reach)

    def _may_be_called(self, function: Func, of: Class | None) -> bool:
        if id(function.node) in self.walk.walked or isinstance(function.node, ast.Lambda):
            return False
        name, code = function.name, self.walk.code
        if of is not None and of not in self.walk.used and of.name in code.mentioned:
            return False
        if of is not None and self.walk.is_member(name):
            lineages = map(self.walk.lineage, self.walk.facts.platforms)
            if any(of in lineage.steps for lineage in lineages):
                return False  # core does not ask for it in this release
        spoken_of = name in code.mentioned
        public = of is not None and not name.startswith("_")
        return name in self.walk.mentioned or not spoken_of or public


def _class_of(value: Value | None) -> Class | None:
    return next((v for v in alternatives(value) if isinstance(v, Class)), None) if value is not None else None
