"""What users switch: environment variables that groups read, and the engines that groups are made with.

Facts: SGLang 0.5.23, srt/environ.py and srt/distributed/parallel_state.py.
"""

from __future__ import annotations

from ..environ import EnvBool
from . import parallel_state as state


class Switches:
    """The environment variables, beyond those of the contract; each is read when asked."""

    SGLANG_USE_MESSAGE_QUEUE_BROADCASTER = EnvBool(True)
    SGLANG_ONE_VISIBLE_DEVICE_PER_PROCESS = EnvBool(False)
    SGLANG_ENABLE_DETERMINISTIC_INFERENCE = EnvBool(False)
    SGLANG_SYNC_TOKEN_IDS_ACROSS_TP = EnvBool(False)


switches = Switches()


def set_custom_all_reduce(enable: bool) -> None:
    """Whether groups made from now on have custom all-reduce, where nobody says otherwise."""
    state._ENABLE_CUSTOM_ALL_REDUCE = enable


def set_mscclpp(enable: bool) -> None:
    """The same for MSCCL++."""
    state._ENABLE_MSCCLPP = enable


def set_mscclpp_all_reduce(enable: bool) -> None:
    """The same for MSCCL++, by the name that it had before 0.5.21."""
    state._ENABLE_MSCCLPP = enable


def set_torch_symm_mem_all_reduce(enable: bool) -> None:
    """The same for torch's symmetric memory."""
    state._ENABLE_TORCH_SYMM_MEM_ALL_REDUCE = enable


def set_flashinfer_allreduce_only(enable: bool) -> None:
    """The same for FlashInfer's all-reduce."""
    state._ENABLE_FLASHINFER_ALLREDUCE_ONLY = enable


def set_pdmux_status(enable_prefill_multiplexing: bool) -> None:
    """Whether the duplicate for prefill stands for tensor parallelism."""
    state._ENABLE_PDMUX_P_TP = enable_prefill_multiplexing
