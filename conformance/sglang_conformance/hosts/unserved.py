"""What keeps the real SGLang from serving here, in which no platform has a part: said as NotServed, with the reason.

Each rule names something of SGLang's own, exactly: what a platform has put in its place is served, and judged.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import lacking
from .serving import NotServed, Server

SCHEDULER = "sglang.srt.managers.scheduler"
MODULES = ("sglang.srt.server_args", SCHEDULER, "sglang.srt.models.registry")
# The modules of the architectures that are served. SGLang leaves out the models that it cannot import.
_LATENT = "DeepseekV2ForCausalLM"
_MODELS = {"LlamaForCausalLM": "llama", _LATENT: "deepseek_v2", "MixtralForCausalLM": "mixtral"}
# What these modules want in every release, beside what SGLang's platforms and groups want.
_WANTED = (
    "transformers",
    "torchvision",
    "safetensors",
    "sentencepiece",
    "compressed_tensors",
    "gguf",
    "einops",
    "xgrammar",
    "openai",
    "fastapi",
    "uvicorn",
    "uvloop",
    "partial_json_parser",
    "dill",
    "loguru",
    "setproctitle",
)
_WITH_TRANSFORMERS = ("huggingface_hub", "tokenizers")
_TORCH_NATIVE = "sglang.srt.layers.attention.torch_native_backend.TorchNativeAttnBackend"
_NATIVE = "sglang.srt.layers.moe.fused_moe_native"
_UNQUANTIZED = "sglang.srt.layers.quantization.unquant"
_INTERFACE = "sglang.srt.platforms.interface"
_WITHOUT_TRITON = (
    "up to 0.5.21 SGLang starts Triton's kernels beside every attention but its own in torch, which no graph can hold; "
    "Triton has no driver here"
)
_EXPERTS = (
    "SGLang's experts in torch (srt/layers/moe/fused_moe_native.py), which this platform has, "
    "run neither in graphs nor where ranks have experts of their own"
)


def must_import(*modules: str) -> None:
    """Raise NotServed where these modules of SGLang's do not import."""
    if why := obstacle(*modules):
        raise NotServed(why)


@functools.cache
def obstacle(*modules: str) -> str:
    """Why these modules of SGLang's do not import, with all that is missing and how to add it; empty where they do."""
    try:
        for name in modules:
            importlib.import_module(name)
    except Exception as error:
        first = lacking.packages(error, ())
        known = [name for name in _WANTED if not lacking.is_here(name)]
        if set(first) & {*known, *_WITH_TRANSFORMERS}:  # then there is no need to look for what is missing
            return lacking.of(known)
        return lacking.told(error, modules)
    return ""


def must_be_able(server_args: Any) -> None:
    """Raise NotServed for what SGLang cannot serve here on any platform, as these arguments ask.

    Up to 0.5.21 SGLang starts Triton's kernels beside every attention but its own in torch, and captures no graph with
    that (0.5.21, srt/mem_cache/allocation.py: get_last_loc).
    """
    must_have_model(server_args)
    if server_args.disable_cuda_graph or hasattr(importlib.import_module(_INTERFACE), "PlatformCapabilities"):
        return
    platform: Any = importlib.import_module("sglang.srt.platforms").current_platform
    if platform.support_cuda_graph() and not triton_runs():
        raise NotServed(_WITHOUT_TRITON)


def must_have_model(server_args: Any) -> None:
    """Raise NotServed where SGLang's module of a model that is to be served does not import."""
    for architecture in _architectures(server_args):
        must_import(f"sglang.srt.models.{_MODELS[architecture]}")


def must_serve(server: Server, server_args: Any) -> None:
    """Raise NotServed for what SGLang's own parts, which the platform only chose, cannot serve here.

    Latent attention is prefilled by way of its whole keys, which SGLang's attention in torch looks for in the pool
    (0.5.23, srt/models/deepseek_common/attention_backend_handler.py and layers/attention/torch_native_backend.py). Its
    experts in torch count tokens on the host, which no graph can hold, and take -1, the number of an expert that
    another rank has, for an index (0.5.11 and 0.5.23, srt/layers/moe/fused_moe_native.py and
    token_dispatcher/standard.py).
    """
    if _LATENT in _architectures(server_args) and _name(server.runner.attn_backend) == _TORCH_NATIVE:
        raise NotServed("SGLang's attention backend torch_native, which this platform has, serves no latent attention")
    if (server_args.ep_size > 1 or server.captured) and _has_experts_in_torch(server.runner.model):
        raise NotServed(_EXPERTS)


def must_capture(error: BaseException, server_args: Any) -> None:
    """Raise NotServed where a server came to an end while it was made, as a graph was to hold what SGLang's experts in
    torch count on the host.
    """
    if not server_args.disable_cuda_graph and any(map(_ends_in_a_copy_to_the_host, _chain(error))):
        raise NotServed(_EXPERTS) from error


def _architectures(server_args: Any) -> list[str]:
    """What kinds of model the folder holds."""
    config = json.loads((Path(server_args.model_path) / "config.json").read_text(encoding="utf-8"))
    return [str(each) for each in config["architectures"]]


def _has_experts_in_torch(model: Any) -> bool:
    """Whether what runs some layer's experts here is SGLang's own function that hands them to those in torch."""
    for layer in model.modules():
        function = getattr(_runs(getattr(layer, "quant_method", None)), "__func__", None)
        code = getattr(function, "__code__", None)
        if code is None or function.__module__ != _UNQUANTIZED or getattr(layer, "use_intel_amx_backend", False):
            continue
        if "moe_forward_native" in code.co_names:
            return True
    return False


def _runs(operator: Any) -> Any:
    """What runs an operator of SGLang's: since 0.5.18 it is chosen at the first call (0.5.23, kernels/fused_op.py)."""
    chosen = getattr(operator, "_forward_method", None)
    choose = getattr(operator, "_resolve_forward_method", None)
    return choose() if chosen is None and choose is not None else chosen


def _ends_in_a_copy_to_the_host(error: BaseException) -> bool:
    """Whether SGLang's last line in a traceback is where its experts in torch copy what they counted to the host."""
    file = getattr(sys.modules.get(_NATIVE), "__file__", None)
    own = [each for each in traceback.extract_tb(error.__traceback__) if "/sglang/srt/" in each.filename]
    return bool(own) and own[-1].filename == file and ".cpu()" in (own[-1].line or "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _name(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def triton_runs() -> bool:
    """Whether Triton has a driver here."""
    try:
        importlib.import_module("triton.runtime").driver.active.get_current_device()
    except Exception:
        return False
    return True
