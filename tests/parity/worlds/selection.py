"""Drawn worlds of platforms' selection: few names, so that they meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..selection import CLASSES, PLATFORMS, PLUGINS, VARIABLES, Vendor, World

_NAMES = ("acme", "beta", "hooks", "Acme")
_DISTRIBUTIONS = ("acme-plugin", "beta_plugin", "Acme.Plugin")
_MODULES = ("vendor_a", "vendor_b")
_ERRORS = ("ImportError", "ModuleNotFoundError", "RuntimeError", "ValueError", "AttributeError", "SystemExit")
_RAISED = st.sampled_from(_ERRORS).map("raises {}".format)

_PATHS = st.one_of(
    st.builds("{}.{}".format, st.sampled_from(_MODULES), st.sampled_from(CLASSES)),
    st.builds("{}:{}".format, st.sampled_from(_MODULES), st.sampled_from(CLASSES)),
    st.sampled_from(
        (
            "vendor_a.missing",
            "vendor_a",
            "nowhere.Platform",
            "sglang.srt.platforms.interface.SRTPlatform",
            "sglang.srt.platforms.interface.DeviceMixin",
            "Platform",
            "vendor_a.",
            ".Platform",
            "not a path",
        )
    ),
)
_USUAL = st.sampled_from([f"{module}.{name}" for module in _MODULES for name in ("Platform", "Other", "Outer.Inner")])
_RETURNED = st.one_of(st.none(), _USUAL, _USUAL, _PATHS, st.sampled_from(("", 7, False)), _RAISED)
_VALUES = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(_MODULES), st.sampled_from(("activate", "register", "hooks"))),
    st.builds("{}:activate".format, st.sampled_from(_MODULES)),
    st.sampled_from(
        (
            "vendor_a:missing",
            "vendor_a:constant",
            "vendor_a",
            "nowhere:activate",
            "vendor_a:activate [extra]",
            "no value!",
        )
    ),
)


@st.composite
def _vendors(draw: Any) -> tuple[Vendor, ...]:
    def points() -> Any:
        return st.lists(
            st.tuples(st.sampled_from((PLATFORMS, PLATFORMS, PLUGINS)), st.sampled_from(_NAMES), _VALUES),
            max_size=3,
            unique_by=lambda point: point[:2],
        ).map(tuple)

    importing = st.one_of(st.just(""), st.just(""), st.just(""), st.sampled_from(_ERRORS))
    vendor = st.builds(
        Vendor, st.sampled_from(_DISTRIBUTIONS), st.sampled_from(_MODULES), importing, _RETURNED, _RETURNED, points()
    )
    return tuple(draw(st.lists(vendor, max_size=3)))


_PLATFORM = st.sampled_from((*_NAMES, "", "nobody", " acme", "acme,beta"))
_ALLOWED = st.sampled_from((*_NAMES, "", ",", "acme,beta", " hooks , acme ", "nobody", "acme;hooks"))
_CPU = st.sampled_from(("1", "0", "", "true", " 1", "01"))
_SETTINGS = {"SGLANG_PLATFORM": _PLATFORM, "SGLANG_PLUGINS": _ALLOWED, "SGLANG_USE_CPU_ENGINE": _CPU}
_ENVIRONMENT = st.fixed_dictionaries({}, optional=_SETTINGS)


def _step(name: str, *arguments: Any) -> Any:
    return st.tuples(st.just(name), st.tuples(*arguments))


_SET = st.sampled_from(VARIABLES).flatmap(
    lambda name: _step("set", st.just(name), st.one_of(st.none(), _SETTINGS[name]))
)
_STEPS = st.one_of(
    _step("current"),
    _step("load_plugins"),
    _step("resolve"),
    _step("twice"),
    _step("excluded"),
    _step("load_class", _PATHS),
    _step(
        "by_group",
        st.sampled_from((PLATFORMS, PLUGINS, "sglang.srt.nothing")),
        st.one_of(st.none(), st.lists(st.sampled_from(_DISTRIBUTIONS), max_size=2).map(tuple)),
    ),
    _step("current", st.sampled_from(("current_platforms", "_current_platform", "__path_"))),
    _step("forget"),
    _step("unload"),
    _SET,
)


@st.composite
def _working(draw: Any) -> World:
    """Plugins that come to life, two of which may have one name, and variables that speak of them."""
    name = st.sampled_from(("acme", "beta"))
    vendors = tuple(
        Vendor(
            distribution,
            module,
            "",
            draw(st.sampled_from((f"{module}.Platform", f"{module}.Other", None))),
            None,
            ((PLATFORMS, draw(name), f"{module}:activate"), (PLUGINS, draw(name), f"{module}:register")),
        )
        for distribution, module in zip(draw(st.permutations(_DISTRIBUTIONS)), _MODULES, strict=False)
    )
    settings = {
        "SGLANG_PLATFORM": name,
        "SGLANG_PLUGINS": st.sampled_from(("acme", " acme", "beta , acme", "acme,beta ", "beta,")),
    }
    steps = draw(st.lists(st.sampled_from(("current", "load_plugins", "excluded", "resolve")), min_size=2, max_size=4))
    environment = draw(st.fixed_dictionaries({}, optional=settings))
    return World(vendors, environment, tuple((step, ()) for step in steps))


_DRAWN = st.builds(World, _vendors(), _ENVIRONMENT, st.lists(_STEPS, min_size=1, max_size=5).map(tuple))
WORLDS = st.one_of(_DRAWN, _DRAWN, _DRAWN, _working())
"""Worlds of :mod:`parity.selection`."""
