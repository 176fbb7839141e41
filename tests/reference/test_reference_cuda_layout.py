"""Where things lie in the memory of the CUDA engine, how operations are parted; and CUDA's library, where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_reference._cuda_all_reduce import cudart, engine
from sglang_reference._cuda_all_reduce.cudart import CudaError, Cudart
from sglang_reference._cuda_all_reduce.layout import LINE_WORDS, PACK, Algorithm, Layout, Row, launch

layouts = st.builds(
    Layout,
    world=st.integers(2, 16),
    blocks=st.integers(1, 130),
    push_bytes=st.integers(0, 300).map(lambda packs: PACK * packs),
    pull_bytes=st.integers(0, 300).map(lambda packs: PACK * packs),
)


@given(layouts)
def test_areas_follow_one_another_and_fit(layout: Layout) -> None:
    offsets = [row[0] for row in layout.table([0])]
    slots, chunk = layout.world * layout.push_bytes, layout.chunk_bytes
    lengths = [layout.board_bytes, slots, slots, layout.pull_bytes, layout.pull_bytes, chunk, chunk]
    assert len(offsets) == len(lengths)
    for offset, length, following in zip(offsets, lengths, [*offsets[1:], layout.total_bytes], strict=True):
        assert offset % PACK == 0
        assert offset + length <= following
    assert chunk % PACK == 0
    assert layout.world * chunk >= layout.pull_bytes > layout.world * (chunk - PACK) or layout.pull_bytes == chunk == 0


@given(layouts, st.integers(0, 15))
def test_words_of_a_board_are_apart(layout: Layout, rank: int) -> None:
    """As the kernels count them: numbers by block, failure, then for each meeting a line for each block."""
    head = layout.head_words
    assert head > layout.blocks
    words = [
        head + (meeting * layout.blocks + block) * LINE_WORDS + rank
        for meeting in (0, 1)
        for block in range(layout.blocks)
    ]
    assert len({word // LINE_WORDS for word in words}) == len(words)
    assert 8 * (max(words) + 1) <= layout.board_bytes


@given(layouts, st.lists(st.integers(0, 1 << 50), min_size=2, max_size=16))
def test_table_has_the_same_places_in_every_ranks_memory(layout: Layout, bases: list[int]) -> None:
    table = layout.table(bases)
    assert len(table) == Row.RESULT + 2
    assert table[Row.BOARD] == bases
    assert all(at - base == row[0] - bases[0] for row in table for at, base in zip(row, bases, strict=True))


@given(layouts, st.sampled_from(Algorithm), st.integers(1, 4000), st.sampled_from([2, 4]), st.booleans())
def test_launches_cover_all_with_no_more_blocks_than_there_are(
    layout: Layout, algorithm: Algorithm, packs: int, itemsize: int, registered: bool
) -> None:
    nbytes = PACK * packs
    if nbytes > layout.capacity(algorithm, registered):
        with pytest.raises(ValueError, match="has room for"):
            launch(layout, algorithm, nbytes, itemsize, registered)
        return
    plan = launch(layout, algorithm, nbytes, itemsize, registered)
    parted = packs if algorithm.shots == 1 else -(-packs // layout.world)
    assert (plan.packs, plan.pack) == (packs, PACK // itemsize)
    assert 1 <= plan.grid <= layout.blocks
    assert plan.tile == 32 * plan.warps * plan.pack
    tiles = -(-parted * plan.pack // plan.tile)
    assert plan.grid == min(layout.blocks, tiles)
    if algorithm.shots == 2:  # what a rank sums has room in its result, and in half a slot
        room = layout.chunk_bytes if algorithm is Algorithm.TWO_SHOT_PULL else layout.push_bytes // 2
        assert PACK * parted <= room


@pytest.mark.parametrize("nbytes", [-16, 0, 8, 24])
def test_bytes_that_are_no_packs_are_refused(nbytes: int) -> None:
    with pytest.raises(ValueError, match="not a positive multiple of 16"):
        launch(Layout(2, 1, 1024, 1024), Algorithm.ONE_SHOT_PUSH, nbytes, 4)


@pytest.mark.parametrize("given", [(1, 1, 16, 16), (17, 1, 16, 16), (2, 0, 16, 16), (2, 1, 8, 16), (2, 1, 16, -16)])
def test_layouts_that_cannot_be_are_refused(given: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"ranks|block|multiples"):
        Layout(*given)


def test_reference_is_light() -> None:
    """Neither Triton nor CUDA is touched by importing the reference, nor by the engine's own modules."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "reference")!r})
import torch, sglang_reference
from sglang_reference._cuda_all_reduce import communicator
print("triton" in sys.modules, torch.cuda.is_initialized(), "sglang_reference._cuda_all_reduce.kernels" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "False", "False"], done.stderr


def test_without_triton_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match=r"needs Triton.*pip install 'sglang-conformance\[cuda\]'"):
        engine.kernels()


def test_where_cuda_has_no_library_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudart, "_NAMES", ("libcudart-of-nobody.so",))
    monkeypatch.setattr(cudart, "_loaded", list)
    with pytest.raises(CudaError, match=r"cannot be loaded: libcudart-of-nobody\.so"):
        Cudart()


def test_what_cuda_refuses_is_told_in_its_words() -> None:
    try:
        library = Cudart(("/usr/local/cuda/lib64/libcudart.so",))
    except CudaError as error:
        pytest.skip(str(error))
    with pytest.raises(CudaError, match=r"cudaFree failed: .+ \(error \d+\)"):
        library.free(0x1000)
    with pytest.raises(CudaError, match=r"cudaIpcGetMemHandle failed: .+ \(error \d+\)"):
        library.export(0x1000)
    with pytest.raises(CudaError, match=r"cudaIpcOpenMemHandle failed: .+ \(error \d+\)"):
        library.open(bytes(64))
    with pytest.raises(CudaError, match="has 64 bytes, this one has 3"):
        library.open(b"abc")
