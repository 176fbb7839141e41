"""``sglang.srt.plugins.hook_registry``: hooks on SGLang's functions, methods and classes.

Rules: SGLang 0.5.11 and 0.5.23, srt/plugins/hook_registry.py. Registering only takes note; ``apply_hooks`` patches the
targets, and patches the modules that had imported them by name as well.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import pkgutil
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, TypeVar

logger = logging.getLogger(__name__)

_H = TypeVar("_H", bound=Callable[..., Any])


class HookSource(NamedTuple):
    """The plugin that registered a hook: its entry-point name and its distribution."""

    plugin_name: str
    dist_name: str | None


class HookType(Enum):
    """When a hook runs, and what it is given."""

    BEFORE = "before"
    """Before the target, with its arguments; returns the arguments to use, ``(args, kwargs)``, or None."""
    AFTER = "after"
    """After the target, with its result and its arguments; returns the result to use, or None."""
    AROUND = "around"
    """Instead of the target, with the target and its arguments; returns the result."""
    REPLACE = "replace"
    """In place of the target: a function of the same arguments, or a class."""


Hook = tuple[HookType, Callable[..., Any], "HookSource | None"]

_current_plugin_source: contextvars.ContextVar[HookSource | None] = contextvars.ContextVar(
    "_current_plugin_source", default=None
)


class HookRegistry:
    """The hooks of this process, by target, and the targets already patched."""

    _hooks: ClassVar[defaultdict[str, list[Hook]]] = defaultdict(list)
    _patched: ClassVar[set[str]] = set()

    @classmethod
    def register(
        cls,
        target: str,
        hook: Callable[..., Any],
        hook_type: HookType = HookType.AFTER,
        *,
        source: HookSource | None = None,
    ) -> None:
        """Note a hook for ``target``, the dotted path of a function, method or class.

        ``source`` is taken from the plugin that ``load_plugins`` is running, where it is not given. Raises TypeError
        for a class as a hook of another type than REPLACE.
        """
        if isinstance(hook, type) and hook_type != HookType.REPLACE:
            raise TypeError(
                f"the class {hook.__name__} can only be a REPLACE hook, not HookType.{hook_type.name}; pass a function"
            )
        source = source or _current_plugin_source.get()
        hooks = cls._hooks[target]
        if hook_type == HookType.REPLACE:
            _warn_of_earlier_replace(target, hooks, hook, source)
        hooks.append((hook_type, hook, source))
        logger.debug("%s hook registered on %s (%s)", hook_type.value, target, _format_source(source))

    @classmethod
    def apply_hooks(cls) -> None:
        """Patch every target that is not patched yet; a target that fails is logged, and tried again next time.

        Targets with a class as replacement come first, so that a hook on a method meets the replacing class.
        """
        for target, hooks in sorted(cls._hooks.items(), key=_turn):
            if target in cls._patched:
                continue
            try:
                cls._apply_target(target, hooks)
            except Exception:
                logger.exception("The hooks on %s cannot be applied", target)
            else:
                cls._patched.add(target)

    @classmethod
    def _apply_target(cls, target: str, hooks: Sequence[Hook]) -> None:
        path, _, name = target.rpartition(".")
        if not path:
            raise ValueError(f"the hook target {target!r} is no dotted path; write module.name")
        owner = pkgutil.resolve_name(path)
        original, rewrap = _original(owner, name)
        if path in cls._patched:
            _warn_of_replaced_method(target, owner, name, hooks)
        if isinstance(original, type):
            _check_class_target(target, hooks)
        _note_combinations(target, hooks)
        wrapped: Any = original
        # The sort is stable: within REPLACE and within the rest, the order of registration stays.
        for hook_type, hook, _source in sorted(hooks, key=lambda h: h[0] != HookType.REPLACE):
            wrapped = _wrap_fn(wrapped, hook, hook_type)
        if rewrap is not None:
            wrapped = rewrap(wrapped)
            logger.debug("%s stays a %s", target, rewrap.__name__)
        setattr(owner, name, wrapped)
        rebound = _propagate_patch(original, wrapped, owner) if wrapped is not original else 0
        if rebound:
            logger.debug("%d module(s) that had imported %s have it hooked", rebound, target)
        logger.info("%d hook(s) applied to %s (%s)", len(hooks), target, _sources(hooks))

    @classmethod
    def reset(cls) -> None:
        """Forget all hooks and what was patched; the patches themselves stay."""
        cls._hooks.clear()
        cls._patched.clear()


def plugin_hook(target: str, type: HookType = HookType.AFTER) -> Callable[[_H], _H]:
    """Decorator that registers a function or class as a hook on ``target`` and returns it unchanged."""

    def register(hook: _H) -> _H:
        HookRegistry.register(target, hook, type)
        return hook

    return register


def _turn(item: tuple[str, Sequence[Hook]]) -> tuple[bool, str]:
    """The order of targets: class replacements, then the rest; by name within each."""
    target, hooks = item
    replaces_class = any(kind == HookType.REPLACE and isinstance(hook, type) for kind, hook, _ in hooks)
    return (not replaces_class, target)


def _original(owner: Any, name: str) -> tuple[Any, type | None]:
    """What the hooks wrap, and as what it goes back: the function inside a class's own class or static method.

    An inherited one is met as an attribute, already bound, and goes back as it is: None.
    """
    found = getattr(owner, name)
    own = owner.__dict__.get(name) if isinstance(owner, type) else None
    if isinstance(own, classmethod):
        return own.__func__, classmethod
    if isinstance(own, staticmethod):
        return own.__func__, staticmethod
    return found, None


def _wrap_fn(original_fn: Callable[..., Any], hook: Callable[..., Any], hook_type: HookType) -> Callable[..., Any]:
    """``original_fn`` with one hook around it. A replacing class stands for itself: isinstance keeps working."""
    if hook_type == HookType.REPLACE and isinstance(hook, type):
        return hook
    call = _CALLS.get(hook_type)
    if call is None:
        raise ValueError(f"{hook_type!r} is no hook type; use a member of HookType")

    @functools.wraps(original_fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return call(original_fn, hook, args, kwargs)

    return wrapper


def _call_before(original: Any, hook: Any, args: Any, kwargs: Any) -> Any:
    changed = hook(*args, **kwargs)
    if changed is not None:
        args, kwargs = changed
    return original(*args, **kwargs)


def _call_after(original: Any, hook: Any, args: Any, kwargs: Any) -> Any:
    result = original(*args, **kwargs)
    changed = hook(result, *args, **kwargs)
    return result if changed is None else changed


def _call_around(original: Any, hook: Any, args: Any, kwargs: Any) -> Any:
    return hook(original, *args, **kwargs)


def _call_replace(original: Any, hook: Any, args: Any, kwargs: Any) -> Any:
    return hook(*args, **kwargs)


_CALLS: dict[HookType, Callable[..., Any]] = {
    HookType.BEFORE: _call_before,
    HookType.AFTER: _call_after,
    HookType.AROUND: _call_around,
    HookType.REPLACE: _call_replace,
}


def _propagate_patch(original: object, wrapped: object, source_module: object) -> int:
    """Point the attributes of other modules that still hold ``original`` at ``wrapped``; how many there were."""
    count = 0
    for module in list(sys.modules.values()):
        if module is source_module or not isinstance(module, types.ModuleType):
            continue
        for name in [name for name, value in vars(module).items() if value is original]:
            try:
                setattr(module, name, wrapped)
            except (AttributeError, TypeError):
                continue
            count += 1
    return count


def _check_class_target(target: str, hooks: Sequence[Hook]) -> None:
    other = next((kind for kind, _, _ in hooks if kind != HookType.REPLACE), None)
    if other is not None:
        raise TypeError(
            f"{target} is a class and takes only REPLACE hooks, not {other.value}; hook {target}.<method> instead"
        )


def _note_combinations(target: str, hooks: Sequence[Hook]) -> None:
    """Log combinations of hooks on one target that may not do what their authors expect."""
    kinds = [kind for kind, _, _ in hooks]
    arounds = [hook for hook in hooks if hook[0] == HookType.AROUND]
    others = {kind for kind in kinds if kind != HookType.REPLACE}
    if len(arounds) > 1:
        logger.warning(
            "%d AROUND hooks on %s (%s): one that does not call its original skips those inside it",
            len(arounds),
            target,
            ", ".join(_format_source(source) for _, _, source in arounds),
        )
    if HookType.REPLACE in kinds and others:
        names = ", ".join(sorted(kind.value for kind in others))
        logger.info("The REPLACE hook on %s goes inside its %s hooks", target, names)


def _warn_of_earlier_replace(
    target: str, hooks: Sequence[Hook], hook: Callable[..., Any], source: HookSource | None
) -> None:
    earlier = [(h, s) for kind, h, s in hooks if kind == HookType.REPLACE]
    if earlier:
        before, before_source = earlier[-1]
        logger.warning(
            "Several REPLACE hooks on %s: %s (%s) takes the place of %s (%s)",
            target,
            _name(hook),
            _format_source(source),
            _name(before),
            _format_source(before_source),
        )


def _warn_of_replaced_method(target: str, owner: object, name: str, hooks: Sequence[Hook]) -> None:
    """Warn where a method REPLACE overrides the very class that took the place of the original one."""
    replacing = [source for kind, _, source in hooks if kind == HookType.REPLACE]
    if replacing and isinstance(owner, type) and name in owner.__dict__:
        logger.warning(
            "REPLACE on %s (%s) will override the method of the class that itself replaces the original; "
            "change that class, or use AROUND",
            target,
            ", ".join(_format_source(source) for source in replacing),
        )


def _name(hook: Callable[..., Any]) -> str:
    return getattr(hook, "__qualname__", None) or repr(hook)


def _sources(hooks: Sequence[Hook]) -> str:
    return ", ".join(sorted({_format_source(source) for _, _, source in hooks}))


def _format_source(source: HookSource | None) -> str:
    if source is None:
        return "unknown"
    plugin = f"plugin={source.plugin_name}"
    return f"{plugin}, dist={source.dist_name}" if source.dist_name else plugin
