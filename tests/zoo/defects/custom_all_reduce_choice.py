"""Plugins whose hooks break SGLang's choice of a custom all-reduce, for devices that are not theirs."""

from __future__ import annotations

from zoo.workshop import Defect, Edit

_REGISTERED = '    HookRegistry.register(f"{COMMUNICATOR}._resolve_stream", resolve_stream, HookType.REPLACE)\n'
_CHOICE = "sglang.srt.distributed.device_communicators.custom_all_reduce"
_UTILS, _SECOND = f"{_CHOICE}_utils", f"{_CHOICE}_v2"
_USABLE = f"{_UTILS}.can_use_custom_all_reduce_with_nvlink"
_LINKED = f"{_UTILS}.is_full_nvlink"
_TAKES = f"{_CHOICE}.CustomAllreduce.should_custom_ar"
_STRETCH = f"{_UTILS}.is_weak_contiguous"
_ACCESS = f"{_UTILS}.gpu_p2p_access_check"

_KIND = """

def kind():
    import sglang.srt.distributed.device_communicators.custom_all_reduce as choice

    asked = vars(choice).get("kind_of_device")
    return asked() if asked else "musa" if choice._is_musa else "cuda" if choice._is_cuda else ""
"""


def _hook(
    name: str, requirement: str, target: str, given: str, *lines: str, kind: str = "AROUND", also: tuple[str, ...] = ()
) -> Defect:
    """A further hook of the simulated accelerator's plugin, of these lines; ``utils`` is SGLang's module to it."""
    body = "".join(f"    {line}\n" for line in lines)
    edits = (
        Edit("hooks.py", _REGISTERED, f"{_REGISTERED}    HookRegistry.register({target!r}, wrong, HookType.{kind})\n"),
        Edit(
            "hooks.py", "", f"{_KIND}\n\nkept = {{}}\n\n\ndef wrong({given}):\n    import {_UTILS} as utils\n\n{body}"
        ),
    )
    return Defect(f"choice-{name}", requirement, edits, of="sim", also=also)


_ASKED = "original, group, device, supported_world_size, cls_name"
_ASK = "original(group, device, supported_world_size, cls_name)"
_DEVICES = "physical_device_ids, world_size"
_OBJECT = "original, self, tensor"

_CHOSEN = (
    Defect(
        "choice-is-taken-over-for-every-device",
        "CARD-001",
        (
            Edit(
                "hooks.py",
                '    if current_platform.device_name != "sim" or not hardware.has_all_reduce():\n',
                "    if not hardware.has_all_reduce():\n",
            ),
        ),
        of="sim",
    ),
    _hook(
        "is-left-out-on-large-machines",
        "CARD-002",
        _LINKED,
        f"original, {_DEVICES}",
        "return world_size < 9 and original(physical_device_ids, world_size)",
        also=("CARD-008",),
    ),
    _hook(
        "forgets-other-vendors-devices",
        "CARD-002",
        _USABLE,
        _ASKED,
        f"return None if kind() == 'musa' else {_ASK}",
        also=("CARD-005",),
    ),
    _hook(
        "warns-of-pcie-and-stays-enabled",
        "CARD-003",
        _USABLE,
        _ASKED,
        f"answer = {_ASK}",
        "return answer is None and cls_name == 'CustomAllreduce' and len(supported_world_size) == 4 or answer",
        also=("CARD-002", "CARD-004", "CARD-009"),
    ),
    _hook(
        "takes-all-for-linked",
        "CARD-004",
        _LINKED,
        _DEVICES,
        "return True",
        kind="REPLACE",
        also=("CARD-002", "CARD-003", "CARD-005"),
    ),
    _hook(
        "reads-lanes-in-place-of-peers",
        "CARD-004",
        _LINKED,
        _DEVICES,
        "nvml = utils.pynvml",
        "nvml.nvmlInit()",
        "handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in physical_device_ids]",
        "return all(nvml.nvmlDeviceGetNvLinkState(handle, lane) for handle in handles for lane in range(4))",
        kind="REPLACE",
        also=("CARD-002", "CARD-003", "CARD-005"),
    ),
    _hook(
        "disables-all-in-place-of-one-step-back",
        "CARD-005",
        _USABLE,
        _ASKED,
        f"return {_ASK} or None",
        also=("CARD-002", "CARD-003", "CARD-004"),
    ),
    _hook(
        "takes-the-second-unasked",
        "CARD-005",
        f"{_CHOICE}.dispatch_custom_allreduce",
        "original, *args, **kwargs",
        f"from {_SECOND} import CustomAllReduceV2",
        "chosen = original(*args, **kwargs)",
        "return CustomAllReduceV2 if chosen.__module__.startswith('sglang.') else chosen",
        also=("CARD-002", "CARD-003", "CARD-004", "CARD-007"),
    ),
    _hook(
        "lets-the-first-rank-look-alone",
        "CARD-006",
        _USABLE,
        _ASKED,
        f"answer = {_ASK}",
        "return answer if utils.dist.get_rank(group) == 0 or answer is not None else False",
        also=("CARD-003",),
    ),
    _hook(
        "lets-a-rank-leave-before-the-others",
        "CARD-006",
        _USABLE,
        _ASKED,
        f"return None if utils.dist.get_rank(group) == 1 else {_ASK}",
        also=("CARD-003",),
    ),
    _hook(
        "ignores-the-switch",
        "CARD-007",
        f"{_CHOICE}.dispatch_custom_allreduce",
        "original, *args, **kwargs",
        f"from {_SECOND} import CustomAllReduceV2, can_use_custom_all_reduce_v2",
        "if kind() == 'cuda' and can_use_custom_all_reduce_v2(*args, **kwargs):",
        "    return CustomAllReduceV2",
        "return original(*args, **kwargs)",
        also=("CARD-002", "CARD-003", "CARD-005", "CARD-008"),
    ),
    _hook(
        "serves-powers-of-two-alone",
        "CARD-008",
        f"{_SECOND}.can_use_custom_all_reduce_v2",
        "original, group, device",
        "size = utils.dist.get_world_size(group)",
        "return size & (size - 1) == 0 and original(group, device)",
        also=("CARD-002", "CARD-007"),
    ),
    _hook(
        "takes-any-machines-for-one-fabric",
        "CARD-009",
        f"{_UTILS}.is_one_nvlink_clique",
        "group, device",
        "return True",
        kind="REPLACE",
        also=("CARD-002",),
    ),
    _hook(
        "takes-access-for-granted",
        "CARD-010",
        f"{_UTILS}.can_p2p",
        "rank, world_size",
        "return True",
        kind="REPLACE",
        also=("CARD-002", "CARD-006"),
    ),
    _hook(
        "takes-its-own-number-for-all",
        "CARD-011",
        _LINKED,
        f"original, {_DEVICES}",
        "import torch",
        "alone = torch.cuda.device_count() == 1",
        "return original([0] * world_size if alone else physical_device_ids, world_size)",
        also=("CARD-002",),
    ),
    _hook(
        "reads-what-is-not-yet-configured",
        "CARD-012",
        f"{_SECOND}.can_use_custom_all_reduce_v2",
        "original, group, device",
        "configured = kept.setdefault('sizes', [])",
        "answer = original(group, device) and utils.dist.get_world_size(group) in configured",
        "configured[:] = range(2, 17)",
        "return answer",
        also=("CARD-002", "CARD-007", "CARD-008"),
    ),
)

_TENSORS = (
    _hook(
        "takes-bytes-that-are-no-packs",
        "CARD-013",
        _TAKES,
        _OBJECT,
        "size = tensor.numel() * tensor.element_size()",
        "return original(self, tensor) or (size % 16 != 0 and size <= self.max_size and self.full_nvlink)",
    ),
    _hook(
        "stops-before-the-last-byte",
        "CARD-013",
        _TAKES,
        _OBJECT,
        "return original(self, tensor) and tensor.numel() * tensor.element_size() < self.max_size",
    ),
    _hook(
        "wants-a-pack-for-each-rank",
        "CARD-013",
        _TAKES,
        _OBJECT,
        "return original(self, tensor) and tensor.numel() * tensor.element_size() >= 16 * self.world_size",
    ),
    _hook("takes-any-layout", "CARD-014", _STRETCH, "inp", "return True", kind="REPLACE", also=("CARD-015",)),
    _hook(
        "forgets-where-a-tensor-begins",
        "CARD-014",
        _STRETCH,
        "inp",
        "whole = inp.untyped_storage().nbytes() == inp.numel() * inp.element_size()",
        "return inp.is_contiguous() or whole",
        kind="REPLACE",
        also=("CARD-015",),
    ),
    _hook(
        "counts-bytes-of-elements-that-overlap",
        "CARD-015",
        _STRETCH,
        "inp",
        "left = inp.untyped_storage().nbytes() - inp.storage_offset() * inp.element_size()",
        "return inp.is_contiguous() or left == inp.numel() * inp.element_size()",
        kind="REPLACE",
    ),
    _hook(
        "takes-any-type",
        "CARD-016",
        _TAKES,
        _OBJECT,
        "import torch",
        "halves = tensor.numel() * tensor.element_size() // 2",
        "return original(self, torch.empty(halves, dtype=torch.bfloat16, device='meta'))",
    ),
)

_KEPT = ("import json, os, pathlib", 'path = pathlib.Path(os.environ["SGLANG_CACHE_DIR"]) / "peers.json"')
_TEST = (
    "except FileNotFoundError:",
    "    known = {f'{src}->{tgt}': utils.can_actually_p2p([src], [tgt])[0]}",
    "    path.write_text(json.dumps(known))",
    "return known[f'{src}->{tgt}']",
)

_ACCESSES = (
    _hook(
        "trusts-a-truncated-file",
        "CARD-017",
        _ACCESS,
        "src, tgt",
        *_KEPT,
        "try:",
        "    known = json.loads(path.read_text())",
        "except ValueError:",
        "    return True",
        *_TEST,
        kind="REPLACE",
    ),
    _hook(
        "fails-at-a-truncated-file",
        "CARD-017",
        _ACCESS,
        "src, tgt",
        *_KEPT,
        "try:",
        "    known = json.loads(path.read_text())",
        *_TEST,
        kind="REPLACE",
    ),
    _hook(
        "waits-at-a-truncated-file",
        "CARD-017",
        _ACCESS,
        "src, tgt",
        "import time",
        *_KEPT,
        "while path.exists():",
        "    try:",
        "        return json.loads(path.read_text())[f'{src}->{tgt}']",
        "    except ValueError:",
        "        time.sleep(0.1)",
        "answer = utils.can_actually_p2p([src], [tgt])[0]",
        "path.write_text(json.dumps({f'{src}->{tgt}': answer}))",
        "return answer",
        kind="REPLACE",
    ),
)

DEFECTS = (*_CHOSEN, *_TENSORS, *_ACCESSES)
