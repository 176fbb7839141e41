"""Factories that hand out something else than SGLang's own, which does the same."""

from __future__ import annotations

from zoo.defects.factories_made import allocator, locations, operators, piecewise, pool, quantization
from zoo.workshop import Edit, Variant

_OF_SLOTS = ("FAC-009", "FAC-024", "FAC-036", "FAC-037", "FAC-038")
_HEADLESS = '''\
"""An allocator of Acme's own, on the host, which takes the highest page first."""

import torch


class AcmeAllocator:
    def __init__(self, size, page_size, dtype, device, kvcache, need_sort):
        self.pages, self.each, self.device = size // page_size, page_size, device
        self.size, self.page_size = size, page_size
        self.clear()

    def clear(self):
        self.left = list(range(1, self.pages + 1))
        self.held = None

    def available_size(self):
        return len(self.left) * self.each

    def alloc(self, need_size):
        raise NotImplementedError

    def alloc_extend(self, prefix_lens, prefix_lens_cpu, seq_lens, seq_lens_cpu, last_loc, extend_num_tokens):
        return self._grow(prefix_lens_cpu.tolist(), seq_lens_cpu.tolist(), last_loc.tolist())

    def alloc_decode(self, seq_lens, seq_lens_cpu, last_loc):
        after = seq_lens_cpu.tolist()
        return self._grow([length - 1 for length in after], after, last_loc.tolist())

    def _grow(self, before, after, last):
        pages = sum(-(-new // self.each) + -old // self.each for old, new in zip(before, after))
        if pages > len(self.left):
            return None
        slots = []
        for old, new, slot in zip(before, after, last):
            for place in range(old, new):
                slot = slot + 1 if place % self.each else self.left.pop() * self.each
                slots.append(slot)
        return torch.tensor(slots, dtype=torch.int64, device=self.device)

    def free(self, free_index):
        pages = {slot // self.each for slot in free_index.tolist()}
        (self.left if self.held is None else self.held).extend(sorted(pages))

    def free_segment(self, free_index, *, start_pos):
        self.free(free_index)

    def free_group_begin(self):
        self.held = []

    def free_group_end(self):
        held, self.held = self.held, None
        self.left.extend(set(held))
'''

VARIANTS = (
    Variant(
        "kv-pool-in-pages",
        ("FAC-029", "FAC-030", "FAC-034"),
        pool(
            "def get_key_buffer(self, layer_id):",
            "    return super().get_key_buffer(layer_id).view(-1, self.page_size, self.head_num, self.head_dim)",
            "",
            "def get_value_buffer(self, layer_id):",
            "    return super().get_value_buffer(layer_id).view(-1, self.page_size, self.head_num, self.v_head_dim)",
        ),
        "attention of the vendor's own reads pages; SGLang's own NPU pool has this layout "
        "(0.5.23, hardware_backend/npu/memory_pool_npu.py)",
    ),
    Variant(
        "kv-pool-with-room-to-spare",
        ("FAC-029", "FAC-030", "FAC-034", "FAC-035"),
        pool(
            "def _create_buffers(self):",
            "    self.size += 32",
            "    super()._create_buffers()",
            "    self.size -= 32",
        ),
        "who reads a pool asks for slots, not for how many there are",
    ),
    Variant(
        "kv-pool-that-is-one-tensor",
        ("FAC-029", "FAC-030", "FAC-035"),
        pool(
            "def _create_buffers(self):",
            "    super()._create_buffers()",
            "    self.whole = torch.stack(self.k_buffer)",
            "    self.k_buffer = list(self.whole)",
        ),
        "layers are asked for one by one",
    ),
    Variant(
        "allocator-with-the-highest-page-first",
        (*_OF_SLOTS, "FAC-039", "FAC-041"),
        allocator("def clear(self):", "    super().clear()", "    self.free_pages = self.free_pages.flip(0)"),
        "which of the free pages is taken is the allocator's own matter",
    ),
    Variant(
        "allocator-of-the-vendors-own",
        (*_OF_SLOTS, "FAC-019", "FAC-039"),
        (allocator()[0], Edit("slots.py", "", _HEADLESS)),
        "SGLang only calls it, for pages of several slots (0.5.23, mem_cache/allocation.py)",
    ),
    Variant(
        "allocator-for-single-slots-too",
        ("FAC-036", "FAC-037", "FAC-038", "FAC-040"),
        allocator(
            "def alloc(self, need_size):",
            "    pages = self._take(need_size // self.page_size, need_size)",
            "    if pages is None:",
            "        return None",
            "    return (pages[:, None] * self.page_size + torch.arange(self.page_size)).flatten()",
        ),
        "up to 0.5.21 an out-of-tree platform's allocator is made whatever the size of a page",
        release="0.5.11",
    ),
    Variant(
        "norm-adds-in-place",
        ("FAC-042", "FAC-043", "FAC-047"),
        operators(
            RMSNorm=(
                "def forward(self, x, residual=None, *args, **kwargs):",
                "    if residual is None:",
                "        return self.forward_native(x)",
                "    norm, whole = self.forward_native(x, residual, *args, **kwargs)",
                "    return x.copy_(norm), residual.copy_(whole)",
            )
        ),
        "SGLang's own kernel for CUDA does so (0.5.23, layers/layernorm.py: fused_add_rmsnorm)",
    ),
    Variant(
        "norm-rounds-the-sum-first",
        ("FAC-042", "FAC-043", "FAC-047"),
        operators(
            RMSNorm=(
                "def forward(self, x, residual=None, *args, **kwargs):",
                "    if residual is None:",
                "        return self.forward_native(x)",
                "    whole = x + residual",
                "    return self.forward_native(whole), whole",
            )
        ),
        "two roundings, in the type of the tensors, are as good as one",
    ),
    Variant(
        "rotary-embedding-in-place",
        ("FAC-045", "FAC-047"),
        operators(
            RotaryEmbedding=(
                "def forward(self, positions, query, key, *args, **kwargs):",
                "    turned = self.forward_native(positions, query, key, *args, **kwargs)",
                "    return query.copy_(turned[0]), key.copy_(turned[1])",
            )
        ),
        "queries and keys are not used again as they were (0.5.23, models/llama.py:246)",
    ),
    Variant(
        "experts-in-any-order",
        ("FAC-046", "FAC-047"),
        operators(
            TopK=(
                "def forward(self, hidden_states, router_logits, **kwargs):",
                "    found = self.forward_native(hidden_states, router_logits, **kwargs)",
                "    return found._replace(topk_ids=found.topk_ids.flip(-1), topk_weights=found.topk_weights.flip(-1))",
            )
        ),
        "each expert stands beside its weight; which is first is nobody's matter",
    ),
    Variant(
        "compiled-by-the-vendor",
        ("FAC-010", "FAC-049"),
        (
            Edit("platform.py", '        return "eager"\n', "        return compiled_by_acme\n"),
            Edit("platform.py", "", "\n\ndef compiled_by_acme(graph, inputs):\n    return graph.forward\n"),
        ),
        "torch takes a backend itself in place of its name",
    ),
    Variant(
        "quantization-in-eight-bits", ("FAC-011", "FAC-025", "FAC-051"), quantization(), "SGLang asks for what it calls"
    ),
    Variant(
        "quantization-that-refuses-a-layer",
        ("FAC-011", "FAC-025", "FAC-051"),
        quantization(
            Edit("", "        return AcmeLinearMethod()\n", "        raise NotImplementedError('only experts')\n")
        ),
        "raise an error if not supported (0.5.23, platforms/interface.py)",
    ),
    Variant(
        "cache-locations-by-a-gather",
        ("FAC-014", "FAC-052"),
        locations(
            "req_to_token[req_pool_indices].gather(1, start_offset[:, None] + torch.arange(draft_token_num)).flatten()"
        ),
        "only the slots count",
    ),
    Variant(
        "pieces-of-the-vendors-own",
        ("FAC-006", "FAC-050"),
        piecewise("def __call__(self, *values):", "    return self.compiled(*values)"),
        "SGLang calls it in the piece's place (0.5.23, compilation/cuda_piecewise_backend.py)",
        of="sim",
    ),
)
