from __future__ import annotations

from pathlib import Path

import pytest

from .made import LAST, MIDDLE, NEW, OLD, found, platform, write


def written(folder: Path, body: str, before: str = "") -> Path:
    return write(folder, {"vendor/platform.py": platform(body, before)})


def test_parameter_that_core_began_to_give(tmp_path: Path) -> None:
    folder = written(tmp_path, "def is_pin_memory_available(self):\n    return False")
    assert found(folder, OLD) == []
    assert found(folder, MIDDLE) == [("signature", "breaks", "is_pin_memory_available")]


@pytest.mark.parametrize(
    "signature",
    [
        "(self, device=None)",
        "(self, where=None)",
        "(self, *args, **kwargs)",
        "(self, device=None, *, fast=False)",
        "(*a)",
    ],
)
def test_other_spellings_take_the_call_too(tmp_path: Path, signature: str) -> None:
    folder = written(tmp_path, f"def is_pin_memory_available{signature}:\n    return False")
    assert found(folder, NEW) == []


@pytest.mark.parametrize("signature", ["(self, kind)", "(self, *, kind, fast=False)", "(self, **kinds)"])
def test_keyword_that_core_gives_is_taken(tmp_path: Path, signature: str) -> None:
    assert found(written(tmp_path, f"def get_kv_pool_cls{signature}:\n    return None"), NEW) == []


@pytest.mark.parametrize(
    "signature", ["(self)", "(self, which)", "(self, *, which)", "(self, *, kind, fast)", "(self, kind, /)"]
)
def test_keyword_that_core_gives_is_not_taken(tmp_path: Path, signature: str) -> None:
    folder = written(tmp_path, f"def get_kv_pool_cls{signature}:\n    return None")
    assert found(folder, NEW) == [("signature", "breaks", "get_kv_pool_cls")]
    assert found(folder, LAST) == []


def test_static_and_class_methods_are_bound_as_they_are(tmp_path: Path) -> None:
    body = """
    @staticmethod
    def is_pin_memory_available(device=None):
        return False
    @classmethod
    def get_kv_pool_cls(cls, *, kind):
        return None
    """
    assert found(written(tmp_path, body), NEW) == []


def test_decorator_that_is_not_known_keeps_its_secret(tmp_path: Path) -> None:
    body = "@vendor_tool.traced\ndef is_pin_memory_available(self):\n    return False"
    assert found(written(tmp_path, body, "import vendor_tool"), NEW) == []


@pytest.mark.parametrize("value", ["True", "'sim'", "(1, 2)"])
def test_value_where_core_calls(tmp_path: Path, value: str) -> None:
    folder = written(tmp_path, f"get_dispatch_key_name = {value}")
    assert found(folder, NEW) == [("kind", "breaks", "get_dispatch_key_name")]


def test_property_where_core_calls(tmp_path: Path) -> None:
    folder = written(tmp_path, "@property\ndef get_dispatch_key_name(self):\n    return 'sim'")
    assert found(folder, NEW) == [("kind", "breaks", "get_dispatch_key_name")]


@pytest.mark.parametrize(
    "body",
    [
        "def key(self):\n    return 'sim'\nget_dispatch_key_name = key",
        "get_dispatch_key_name = lambda self: 'sim'",
        "get_dispatch_key_name = vendor_tool.key",
    ],
)
def test_function_of_another_name_is_a_method_too(tmp_path: Path, body: str) -> None:
    assert found(written(tmp_path, body, "import vendor_tool"), NEW) == []


def test_method_where_core_reads(tmp_path: Path) -> None:
    folder = written(tmp_path, "def device_name(self):\n    return 'sim'")
    assert found(folder, NEW) == [("kind", "dies silently", "device_name")]
    folder = written(tmp_path / "b", "def capabilities(self):\n    return None")
    assert found(folder, NEW) == [("kind", "breaks", "capabilities")]


@pytest.mark.parametrize(
    "body",
    [
        "@property\ndef device_name(self):\n    return 'sim'",
        "@functools.cached_property\ndef device_name(self):\n    return 'sim'",
        "device_name: str = 'sim'",
    ],
)
def test_values_and_properties_are_read_alike(tmp_path: Path, body: str) -> None:
    assert found(written(tmp_path, body, "import functools"), NEW) == []


def test_context_needs_its_decorator(tmp_path: Path) -> None:
    body = "def reindex_device_id(self, device_id):\n    yield device_id"
    assert found(written(tmp_path / "a", body), NEW) == [("kind", "breaks", "reindex_device_id")]
    folder = written(tmp_path / "b", f"@contextlib.contextmanager\n{body}", "import contextlib")
    assert found(folder, NEW) == []


def test_override_of_the_mixin_is_judged_too(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"vendor/platform.py": platform("", mixin="def is_pin_memory_available(self):\n    return False")}
    )
    assert found(folder, NEW) == [("signature", "breaks", "is_pin_memory_available")]


def test_member_that_core_does_not_call_may_take_what_it_likes(tmp_path: Path) -> None:
    folder = written(tmp_path, "def get_communicator_class(self, what, ever):\n    return None")
    assert found(folder, NEW) == []


def test_device_is_a_text_since_core_asks_for_it(tmp_path: Path) -> None:
    folder = written(tmp_path, "def get_device(self, local_rank: int) -> torch.device:\n    ...", "import torch")
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("kind", "may break", "get_device")]


@pytest.mark.parametrize("said", ["", " -> str", " -> 'str'", " -> Device", " -> str | None"])
def test_annotation_that_says_nothing_else_is_fine(tmp_path: Path, said: str) -> None:
    assert found(written(tmp_path, f"def get_device(self, device_id=0){said}:\n    ..."), NEW) == []


def test_device_that_is_made_without_saying_so(tmp_path: Path) -> None:
    folder = written(
        tmp_path, "def get_device(self, local_rank):\n    return torch.device('v', local_rank)", "import torch"
    )
    assert found(folder, OLD) == []
    assert found(folder, NEW) == [("kind", "may break", "get_device")]


def test_what_core_calls_it_does_not_await(tmp_path: Path) -> None:
    body = "async def init_backend(self): ...\nasync def get_device_uuid(self, device_id=0): ...\n"
    body += "async def get_communicator_class(self): ..."
    found_here = found(written(tmp_path, body), NEW)
    assert found_here == [("kind", "breaks", "get_device_uuid"), ("kind", "dies silently", "init_backend")]
