"""``sglang.srt.mem_cache``: pools of keys and values, who hands out their slots, who shares them."""
