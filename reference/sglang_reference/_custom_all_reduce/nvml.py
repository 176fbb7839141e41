"""The facts of an NVIDIA rank, by NVIDIA's management library: what joins two peers, not how a lane is."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .providers import Unavailable, this_node
from .topology import Device


class NvmlProvider:
    """An NVIDIA device, by NVML. Devices are found by their UUIDs: numbers differ between processes.

    ``nvml`` is the module pynvml. ``has_access`` says, of two UUIDs, whether both reach the other's memory, as
    :mod:`.peer_access` has it. ``vmm``: torch's allocator maps expandable segments.
    """

    def __init__(
        self,
        nvml: Any,
        uuid: str,
        capability: tuple[int, int],
        has_access: Callable[[str, str], bool],
        vmm: bool = False,
    ) -> None:
        self._nvml = nvml
        self._uuid = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        self._capability = capability
        self._has_access = has_access
        self._vmm = vmm

    def device(self) -> Device:
        """The device; without a clique where NVML cannot tell one."""
        with self._open():
            clique = self._clique(self._nvml.nvmlDeviceGetHandleByUUID(self._uuid))
        return Device(this_node(), self._uuid, "cuda", self._capability, clique, self._vmm)

    def lanes(self, peer: Device) -> int:
        """The lanes up to that peer: none unless NVML says that NVLink joins the two.

        That a lane of the device is up says nothing of who is at its other end; the count is that of the lanes which
        end at the peer, or at a switch, and at least one.
        """
        nvml = self._nvml
        with self._open():
            own, other = (nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in (self._uuid, peer.device))
            if nvml.nvmlDeviceGetP2PStatus(own, other, nvml.NVML_P2P_CAPS_INDEX_NVLINK) != nvml.NVML_P2P_STATUS_OK:
                return 0
            at = _bus_id(nvml.nvmlDeviceGetPciInfo(other))
            ends = [self._end(own, lane) for lane in range(getattr(nvml, "NVML_NVLINK_MAX_LINKS", 18))]
            return max(1, sum(end in (at, "switch") for end in ends))

    def access(self, peer: Device) -> bool:
        """Whether both reach the other's memory."""
        return self._has_access(self._uuid, peer.device)

    def _end(self, handle: Any, lane: int) -> str:
        """The bus id of the device at a lane's other end, or ``switch``; empty where the lane is down or is not."""
        nvml = self._nvml
        try:
            if not nvml.nvmlDeviceGetNvLinkState(handle, lane):
                return ""
            kind = getattr(nvml, "nvmlDeviceGetNvLinkRemoteDeviceType", None)
            if kind is not None and kind(handle, lane) == getattr(nvml, "NVML_NVLINK_DEVICE_TYPE_SWITCH", 2):
                return "switch"
            return _bus_id(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, lane))
        except nvml.NVMLError:
            return ""

    def _clique(self, handle: Any) -> str:
        try:
            joined = clique_of(self._nvml, handle)
        except (AttributeError, TypeError, self._nvml.NVMLError):  # an old library or driver
            return ""
        return "" if joined is None else f"{joined[0].hex()}/{joined[1]}"

    @contextmanager
    def _open(self) -> Iterator[None]:
        self._nvml.nvmlInit()
        try:
            yield
        finally:
            self._nvml.nvmlShutdown()


def clique_of(nvml: Any, handle: Any) -> tuple[bytes, int] | None:
    """The fabric that a device has joined: its cluster, and the clique in it; None where it has joined none.

    Raises AttributeError where the library knows no fabrics, and the library's own error.
    """
    fabric = nvml.c_nvmlGpuFabricInfo_v3_t()
    fabric.version = nvml.nvmlGpuFabricInfo_v3
    nvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(fabric))
    if fabric.state != getattr(nvml, "NVML_GPU_FABRIC_STATE_COMPLETED", 3):
        return None
    return bytes(fabric.clusterUuid), int(fabric.cliqueId)


def library() -> Any:
    """The module pynvml, whose library starts. Raises Unavailable with the reason where it does not."""
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise Unavailable(f"pynvml is not installed: {error}") from None
    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML does not start: {error}") from None
    return pynvml


def visible_devices(environ: Mapping[str, str], uuids: Sequence[str]) -> tuple[str, ...]:
    """The UUIDs that a process sees of a machine's, by CUDA_VISIBLE_DEVICES: numbers, or UUIDs as far as they are
    unambiguous. As in CUDA, the first entry that stands for no device ends the list.
    """
    text = environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return tuple(uuids)
    seen: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        if entry.isdigit():
            fits = list(uuids[int(entry) : int(entry) + 1])
        else:
            fits = [uuid for uuid in uuids if entry and uuid.startswith(entry)]
        if len(fits) != 1:
            break
        seen += fits
    return tuple(seen)


def expandable(environ: Mapping[str, str]) -> bool:
    """Whether torch's allocator maps expandable segments, as its configuration says."""
    text = environ.get("PYTORCH_CUDA_ALLOC_CONF") or environ.get("PYTORCH_ALLOC_CONF") or ""
    return "expandable_segments:true" in text.lower().replace(" ", "")


def _bus_id(info: Any) -> str:
    text = info.busId
    return (text.decode() if isinstance(text, bytes) else str(text)).lower()
