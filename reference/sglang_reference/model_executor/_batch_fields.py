"""Which fields a forward batch has in a release, and those that stay as they are where their feature is not in use.

Facts: SGLang 0.5.11 to 0.5.23, srt/model_executor/forward_batch_info.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._released import Lifetime, absent

_FIELDS: Mapping[str, Lifetime] = {
    **dict.fromkeys(("req_to_token_pool", "token_to_kv_pool", "attn_backend"), Lifetime(gone="0.5.13")),
    "residual_stream": Lifetime("0.5.21"),
    "can_run_dp_cuda_graph": Lifetime(gone="0.5.19"),
    "can_run_decode_cuda_graph": Lifetime("0.5.19"),
    "padded_static_len": Lifetime(gone="0.5.16"),
    "num_token_non_padded_cpu": Lifetime(gone="0.5.20"),
    "global_num_token_non_padded_cpu": Lifetime("0.5.20"),
    "forward_metadata_ready": Lifetime("0.5.13"),
}
ABSENT = absent(_FIELDS)
"""Those of the reference's fields that the release does not have."""

_ALWAYS = Lifetime()
# Attention's data and context parallelism, speculative decoding, encoders, media, mamba, two batches that overlap.
_NONE: Mapping[str, Lifetime] = {
    "attn_cp_metadata": _ALWAYS,
    "attn_dcp_metadata": Lifetime("0.5.15"),
    "aux_hidden_states_buffer": Lifetime("0.5.22"),
    "cross_attention_custom_mask": _ALWAYS,
    "dcp_kv_mask": Lifetime("0.5.15"),
    "dimensions": _ALWAYS,
    "dp_local_num_tokens": _ALWAYS,
    "dp_local_start_pos": _ALWAYS,
    "dp_padding_mode": _ALWAYS,
    "encoder_cached": _ALWAYS,
    "global_dp_buffer_len": _ALWAYS,
    "global_num_tokens_for_logprob_cpu": _ALWAYS,
    "global_num_tokens_for_logprob_gpu": _ALWAYS,
    "hisparse_coordinator": Lifetime(gone="0.5.13"),
    "mamba_track_indices": _ALWAYS,
    "mamba_track_mask": _ALWAYS,
    "mamba_track_seqlens": _ALWAYS,
    "max_seq_len_override": Lifetime("0.5.21"),
    "mm_input_embeds": _ALWAYS,
    "mm_token_modalities": Lifetime("0.5.21"),
    "model_specific_states": _ALWAYS,
    "multi_item_delimiter_indices": _ALWAYS,
    "ngram_embedding_info": _ALWAYS,
    "origin_out_cache_loc": Lifetime("0.5.22"),
    "original_global_num_tokens_cpu": _ALWAYS,
    "out_cache_loc_dsv4": Lifetime("0.5.14"),
    "out_cache_loc_swa": Lifetime(gone="0.5.13"),
    "out_cache_loc_virtual": Lifetime("0.5.20"),
    "replace_embeds": _ALWAYS,
    "replace_positions": _ALWAYS,
    "tbo_padded_len": _ALWAYS,
    "tbo_parent_token_range": _ALWAYS,
    "token_indices_to_pool": Lifetime("0.5.21"),
    "token_type_ids": _ALWAYS,
}
_FALSE: Mapping[str, Lifetime] = {
    "all_extend_in_batch": Lifetime(gone="0.5.16"),
    "attn_tp_sequence_sharded": Lifetime("0.5.20"),
    "can_run_dp_prefill_cuda_graph": Lifetime("0.5.19"),
    "defer_logits_to_eager": Lifetime("0.5.21"),
    "full_prefill_cuda_graph_capture": Lifetime("0.5.22"),
    "out_cache_loc_is_physical": Lifetime("0.5.22"),
    "temp_scaled_logprobs": Lifetime(gone="0.5.13"),
    "top_p_normalized_logprobs": Lifetime(gone="0.5.13"),
}


def unused() -> dict[str, Any]:
    """The release's fields of features that the reference does not serve, with what they hold without them."""
    told: list[tuple[Mapping[str, Lifetime], Any]] = [(_NONE, None), (_FALSE, False)]
    return {name: value for names, value in told for name, lifetime in names.items() if lifetime.holds()}
