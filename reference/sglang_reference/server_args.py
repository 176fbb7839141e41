"""``sglang.srt.server_args``: the server's arguments, resolved as each release does, with the platform's defaults.

Fields, defaults and the names of other members are those of the release's table; the command line is not here. Up to
0.5.18 making the object resolves it; later it is resolved once, on demand (``resolve_once``). Facts: SGLang 0.5.11,
0.5.16, 0.5.19 and 0.5.23, srt/server_args.py.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

from ._arguments import checks, fields, model, steps
from ._arguments.published import publish, published
from ._arguments.resolving import attention_backends_of
from ._contract import since
from ._partial import refuse
from ._ports import PortArgs

__all__ = [
    "ATTENTION_BACKEND_CHOICES",
    "QUANTIZATION_CHOICES",
    "PortArgs",
    "ServerArgs",
    "add_attention_backend_choices",
    "add_quantization_method_choices",
    "get_global_server_args",
    "set_global_server_args_for_scheduler",
]

ATTENTION_BACKEND_CHOICES = list(fields.ATTENTION_BACKENDS)
QUANTIZATION_CHOICES = list(fields.QUANTIZATIONS)

_SEALED = since("0.5.17")  # assignments after the resolution raise
_FROZEN = since("0.5.20")  # and those during it


class _Members:
    """What SGLang's class has besides its fields."""

    def __post_init__(self) -> None:
        if fields.RESOLVED_WHEN_MADE:
            steps.resolve(self)
            vars(self)["_declarations_materialized"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") or name in fields.NAMES:
            own = vars(self)
            if own.get("_input_frozen"):
                raise AttributeError(f"server_args.{name} assigned during resolution: it is declared there, beside it")
            if _SEALED and (own.get("_resolution_finished") or own.get("_declarations_materialized")):
                raise AttributeError(f"server_args.{name} assigned after resolution: server_args is read-only")
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in fields.MEMBERS:
            refuse(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def resolve_once(self) -> None:
        """Resolve what the user has given; a second call does nothing. RuntimeError where the first one failed."""
        own = vars(self)
        if own.get("_resolution_finished"):
            return
        if own.get("_resolution_failed"):
            raise RuntimeError("the resolution of these server arguments has failed before; make them anew")
        own["_input_frozen"] = _FROZEN
        try:
            steps.resolve(self)
        except BaseException:
            own["_resolution_failed"] = True
            raise
        finally:
            own["_input_frozen"] = False
        own["_resolution_finished"] = True

    def check_server_args(self) -> None:
        """Raise AssertionError or ValueError where resolved arguments contradict one another."""
        checks.check(self)

    def get_model_config(self) -> Any:
        """The configuration of the model, read once."""
        return model.model_config_of(self)

    def use_mla_backend(self) -> bool:
        """Whether the model has multi-head latent attention."""
        return model.uses_mla(self)

    def get_attention_backends(self) -> tuple[str, str]:
        """The attention backends of prefill and decode."""
        return attention_backends_of(self)

    def url(self, port: int | None = None) -> str:
        """Where the server answers."""
        scheme = "https" if self.ssl_certfile else "http"
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host or "", self.host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port if port is not None else self.port}"


def _make() -> Any:
    """The class: a dataclass of the release's fields, all but the model's path by keyword."""
    bases = {name: value for name, value in vars(_Members).items() if not name.startswith("__") and name not in _absent}
    special = ("__post_init__", "__setattr__", "__getattr__")
    given: list[Any] = [(name, Any) for name in fields.REQUIRED]
    for name in fields.DEFAULTS:
        factory = dataclasses.field(default_factory=_Default(name), kw_only=True)
        given.append((name, Any, factory))
    made: Any = dataclasses.make_dataclass(
        "ServerArgs",
        given,
        namespace={**bases, **{name: vars(_Members)[name] for name in special}, "__doc__": _DOC},
        eq=False,
    )
    made.__module__ = __name__
    for name in bases:
        bases[name].__qualname__ = f"ServerArgs.{name}"
    return made


_DOC = "The arguments of a server: what the user gave, and what follows from it."


@dataclasses.dataclass(frozen=True)
class _Default:
    """Gives a field's default."""

    name: str

    def __call__(self) -> Any:
        return fields.default(self.name)


_absent = {name for name in vars(_Members) if not name.startswith("_") and name not in fields.MEMBERS}
ServerArgs: Any = _make()


def set_global_server_args_for_scheduler(server_args: Any) -> None:
    """Make these the arguments of this process; resolves them where that has not been done."""
    if not fields.RESOLVED_WHEN_MADE:
        server_args.resolve_once()
    publish(server_args)


def get_global_server_args() -> Any:
    """The arguments of this process, up to 0.5.19; ValueError where there are none. Later releases refuse to answer."""
    if since("0.5.20"):
        _retired()
    arguments = published()
    if arguments is None:
        raise ValueError("Global server args is not set yet!")
    return arguments


def _retired() -> NoReturn:
    raise RuntimeError(
        "get_global_server_args() is retired: it answers what the user gave, and not what holds; ask "
        "sglang.srt.runtime_context"
    )


def add_attention_backend_choices(choices: list[str]) -> None:
    """Let the user name these attention backends too; a plugin that registers one calls it."""
    ATTENTION_BACKEND_CHOICES.extend(choices)


def add_quantization_method_choices(choices: list[str]) -> None:
    """Let the user name these kinds of quantization too."""
    QUANTIZATION_CHOICES.extend(choices)


for _function in (add_attention_backend_choices, add_quantization_method_choices):
    if since("0.5.19"):
        _function.__module__ = f"{__package__}.arg_groups.choices"
