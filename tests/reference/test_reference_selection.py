from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

NOTHING = "def activate():\n    return None\n"
RAISES = "def activate():\n    raise KeyError('no driver')\n"
HOOKS = "\nran = []\ndef hooks():\n    ran.append(1)\n"


@pytest.fixture
def platforms(install: Any, module: Callable[[str], Any]) -> Any:
    install()
    return module("sglang.srt.platforms")


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_one_active_plugin_is_the_platform_for_good(
    install: Any, module: Callable[[str], Any], platform_plugin: Any, plugin: Any, release: str
) -> None:
    platform_plugin("mlu")
    plugin("vendor-idle", NOTHING, platforms={"idle": "activate"})
    install(release)
    platforms = module("sglang.srt.platforms")
    assert platforms._current_platform is None
    assert platforms.current_platform.device_name == "mlu"
    assert platforms.current_platform is platforms._current_platform
    assert platforms.current_platform is platforms.current_platform


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_without_plugins_and_devices_the_bare_platform_serves(
    install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    install(release)
    platforms = module("sglang.srt.platforms")
    assert type(platforms.current_platform) is platforms.SRTPlatform


def test_two_active_plugins_are_refused_by_name(platforms: Any, platform_plugin: Any) -> None:
    platform_plugin("mlu")
    platform_plugin("gcu")
    with pytest.raises(RuntimeError, match="SGLANG_PLATFORM") as caught:
        platforms.current_platform  # noqa: B018
    assert "'mlu'" in str(caught.value)
    assert "'gcu'" in str(caught.value)


def test_selected_plugin_is_the_only_one_imported(
    platforms: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_plugin("mlu")
    platform_plugin("gcu")
    monkeypatch.setenv("SGLANG_PLATFORM", "gcu")
    assert platforms.current_platform.device_name == "gcu"
    assert "vendor_mlu" not in sys.modules


def test_selection_ignores_the_allowlist(platforms: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    platform_plugin("mlu")
    monkeypatch.setenv("SGLANG_PLATFORM", "mlu")
    monkeypatch.setenv("SGLANG_PLUGINS", "something_else")
    assert platforms.current_platform.device_name == "mlu"


def test_allowlist_drops_platforms_that_it_does_not_name(
    platforms: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_plugin("mlu")
    platform_plugin("gcu")
    monkeypatch.setenv("SGLANG_PLUGINS", "other, gcu ,")
    assert platforms.current_platform.device_name == "gcu"
    assert "vendor_mlu" not in sys.modules


def test_unknown_selection_lists_what_is_installed(
    platforms: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_plugin("mlu")
    monkeypatch.setenv("SGLANG_PLATFORM", "mlx")
    with pytest.raises(RuntimeError, match=r"SGLANG_PLATFORM='mlx' .*there are: 'mlu'"):
        platforms.current_platform  # noqa: B018


def test_selected_plugin_that_declines_is_an_error(
    platforms: Any, plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin("vendor-idle", NOTHING, platforms={"idle": "activate"})
    monkeypatch.setenv("SGLANG_PLATFORM", "idle")
    with pytest.raises(RuntimeError, match=r"'idle'.*returned None"):
        platforms.current_platform  # noqa: B018


@pytest.mark.parametrize(
    ("source", "error"), [(RAISES, KeyError), ("import no_such_sdk\n", ModuleNotFoundError), ("", AttributeError)]
)
def test_broken_plugin_is_fatal_when_selected_and_logged_otherwise(
    platforms: Any,
    plugin: Any,
    platform_plugin: Any,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
    source: str,
    error: type[Exception],
) -> None:
    plugin("vendor-broken", source, platforms={"broken": "activate"})
    platform_plugin("mlu")
    monkeypatch.setenv("SGLANG_PLATFORM", "broken")
    with pytest.raises(error):
        platforms.__getattr__("current_platform")
    monkeypatch.delenv("SGLANG_PLATFORM")
    log.clear()
    assert platforms.current_platform.device_name == "mlu"
    logged = [r for r in log.records if r.levelname == "ERROR"]
    assert [(r.exc_info[0], "broken" in r.getMessage()) for r in logged if r.exc_info] == [(error, True)]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("'vendor_odd.NoSuch'", AttributeError),
        ("'no_such_module:Platform'", ModuleNotFoundError),
        ("'collections.OrderedDict'", TypeError),
        ("'vendor_odd.activate'", TypeError),
        ("''", ValueError),
        ("Platform", TypeError),
    ],
)
def test_wrong_class_path_is_fatal_in_both_modes(
    platforms: Any, plugin: Any, monkeypatch: pytest.MonkeyPatch, path: str, error: type[Exception]
) -> None:
    plugin("vendor-odd", f"class Platform: ...\ndef activate():\n    return {path}\n", platforms={"odd": "activate"})
    for selected in ("", "odd"):
        monkeypatch.setenv("SGLANG_PLATFORM", selected)
        with pytest.raises(error):
            platforms.__getattr__("current_platform")
    assert platforms._current_platform is None


def test_a_misspelt_class_surfaces_as_a_failed_import_of_current_platform(platforms: Any, plugin: Any) -> None:
    plugin("vendor-odd", "def activate():\n    return 'vendor_odd.NoSuch'\n", platforms={"odd": "activate"})
    with pytest.raises(ImportError, match="cannot import name 'current_platform'"):
        exec("from sglang.srt.platforms import current_platform", {})


def test_of_two_distributions_with_one_name_the_last_wins(platforms: Any, plugin: Any, platform_plugin: Any) -> None:
    platform_plugin("mlu")
    plugin("copy-first", "def activate():\n    return 'no_such_module.Platform'\n", platforms={"mlu": "activate"})
    assert platforms.current_platform.device_name == "mlu"  # vendor-mlu comes after copy-first on sys.path


def test_cpu_needs_its_variable_to_be_exactly_one(
    platforms: Any, platform_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for value, name in {"true": "SRTPlatform", "0": "SRTPlatform", "1": "CpuSRTPlatform"}.items():
        monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", value)
        assert type(platforms._resolve_platform()).__name__ == name
    platform_plugin("mlu")
    assert platforms._resolve_platform().device_name == "mlu"


@pytest.mark.parametrize(
    ("hip", "name", "expected"),
    [
        (None, "NVIDIA H200", "CudaSRTPlatform"),
        (None, "ZW810", "SailSRTPlatform"),
        ("6.2", "MI300", "RocmSRTPlatform"),
    ],
)
def test_detected_hardware_gives_its_platform(
    platforms: Any, monkeypatch: pytest.MonkeyPatch, hip: str | None, name: str, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.hip", hip)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: name)
    assert type(platforms.current_platform).__name__ == expected


def test_detection_follows_the_tables_order(
    install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")
    install(detection=["cuda", "cpu"])
    assert type(module("sglang.srt.platforms").current_platform).__name__ == "CudaSRTPlatform"


def test_load_plugins_runs_hook_plugins_once_and_goes_on_after_a_failure(
    install: Any, module: Callable[[str], Any], plugin: Any, log: pytest.LogCaptureFixture
) -> None:
    plugin("vendor-hooks", HOOKS, plugins={"hooks": "hooks"})
    plugin("vendor-broken", "def hooks():\n    raise OSError\n", plugins={"broken": "hooks"})
    plugin("vendor-missing", "import no_such_sdk\n", plugins={"missing": "hooks"})
    install()
    plugins = module("sglang.srt.plugins")
    plugins.load_plugins()
    plugins.load_plugins()
    assert sys.modules["vendor_hooks"].ran == [1]
    errors = {r.exc_info[0]: r.getMessage() for r in log.records if r.levelname == "ERROR" and r.exc_info}
    assert set(errors) == {OSError, ModuleNotFoundError}
    assert "broken" in errors[OSError]
    assert "missing" in errors[ModuleNotFoundError]


def test_hooks_of_unselected_platforms_are_not_even_imported(
    install: Any, module: Callable[[str], Any], platform_plugin: Any, plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mlu", "gcu"):
        platform_plugin(name, HOOKS, plugins={f"{name}_hooks": "hooks"})
    plugin("plain-hooks", HOOKS, plugins={"plain": "hooks"})
    monkeypatch.setenv("SGLANG_PLATFORM", "mlu")
    install()
    plugins = module("sglang.srt.plugins")
    assert plugins._get_excluded_dists() == {"vendor-gcu"}
    plugins.load_plugins()
    assert sys.modules["vendor_mlu"].ran == sys.modules["plain_hooks"].ran == [1]
    assert "vendor_gcu" not in sys.modules
    monkeypatch.delenv("SGLANG_PLATFORM")
    assert plugins._get_excluded_dists() == set()


def test_plugins_are_given_with_their_distribution(install: Any, module: Callable[[str], Any], plugin: Any) -> None:
    plugin("vendor-hooks", HOOKS + "def more(): ...\n", plugins={"hooks": "hooks", "more": "more"})
    install()
    plugins = module("sglang.srt.plugins")
    found = plugins.load_plugins_by_group(plugins.GENERAL_PLUGINS_GROUP)
    assert {n: (f.__name__, d) for n, (f, d) in found.items()} == {
        "hooks": ("hooks", "vendor-hooks"),
        "more": ("more", "vendor-hooks"),
    }
    assert plugins.load_plugins_by_group(plugins.GENERAL_PLUGINS_GROUP, {"vendor-hooks"}) == {}
    assert plugins.load_plugins_by_group("sglang.srt.no_such_group") == {}


def test_load_plugins_applies_hooks_and_knows_where_they_came_from(
    install: Any, module: Callable[[str], Any], plugin: Any
) -> None:
    source = (
        "from sglang.srt.plugins.hook_registry import plugin_hook\n"
        "def hooks():\n"
        "    @plugin_hook('sglang.srt.distributed.parallel_state.get_default_distributed_backend')\n"
        "    def louder(result, device):\n"
        "        return result.upper()\n"
    )
    plugin("vendor-hooks", source, plugins={"loud": "hooks"})
    install()
    state = module("sglang.srt.distributed.parallel_state")
    module("sglang.srt.plugins").load_plugins()
    assert state.get_default_distributed_backend("cuda") == "NCCL"
    assert module("sglang.srt.distributed").get_default_distributed_backend("cuda") == "NCCL"
    registry = module("sglang.srt.plugins.hook_registry")
    [hooks] = registry.HookRegistry._hooks.values()
    assert hooks[0][2] == ("loud", "vendor-hooks")
    assert registry._current_plugin_source.get() is None
