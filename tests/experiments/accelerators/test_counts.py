"""Operations and bytes of a step, read from XLA's text: of a text written by hand, and of programs that XLA made."""

import jax
import jax.numpy as jnp
import pytest

from experiments.accelerators.counts import step_counts

TEXT = """HloModule made_up, is_scheduled=true

%row (p0: f32[100,4], p1: s32[]) -> f32[1,4] {
  %p0 = f32[100,4]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %taken = f32[1,4]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,4}
}

%kept (q0: f32[100,4], q1: f32[1,4], q2: s32[]) -> f32[100,4] {
  %q0 = f32[100,4]{1,0} parameter(0)
  %q1 = f32[1,4]{1,0} parameter(1)
  %q2 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %put = f32[100,4]{1,0} dynamic-update-slice(%q0, %q1, %q2, %zero.1)
}

%body (arg: (s32[], f32[100,4], f32[100,4])) -> (s32[], f32[100,4], f32[100,4]) {
  %arg = (s32[], f32[100,4]{1,0}, f32[100,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %x = f32[100,4]{1,0} get-tuple-element(%arg), index=1
  %y = f32[100,4]{1,0} get-tuple-element(%arg), index=2
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %slice = f32[1,4]{1,0} fusion(%x, %i), kind=kLoop, calls=%row, metadata={op_name="a(b)"}
  %near = f32[1,4]{1,0:T(8,128)S(1)} copy(%slice)
  %far = f32[1,4]{1,0:T(8,128)} copy(%near)
  %update = f32[100,4]{1,0} fusion(%y, %slice, %i), kind=kLoop, calls=%kept
  ROOT %out = (s32[], f32[100,4]{1,0}, f32[100,4]{1,0}) tuple(%next, %x, %update)
}

%condition (arg.1: (s32[], f32[100,4], f32[100,4])) -> pred[] {
  %arg.1 = (s32[], f32[100,4]{1,0}, f32[100,4]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%arg.1), index=0
  %most = s32[] constant(7)
  ROOT %less = pred[] compare(%i.1, %most), direction=LT
}

ENTRY %main (a: f32[100,4], b: f32[100,4]) -> f32[100,4] {
  %a = f32[100,4]{1,0} parameter(0)
  %b = f32[100,4]{1,0} parameter(1)
  %start = s32[] constant(0)
  %both = (s32[], f32[100,4]{1,0}, f32[100,4]{1,0}) tuple(%start, %a, %b)
  %loop = (s32[], f32[100,4]{1,0}, f32[100,4]{1,0}) while(%both), condition=%condition, body=%body
  ROOT %result = f32[100,4]{1,0} get-tuple-element(%loop), index=2
}
"""


def test_a_step_counts_rows_taken_whole_tiles_and_nothing_that_stays_on_the_chip():
    counts = step_counts(TEXT, 7)
    assert counts.names == ("slice", "near", "far", "update")
    slice_ = 16 + 4 + 16  # the row read, its number, and the row written
    near = 16  # read; written on the chip
    far = 4 * 8 * 128  # a whole tile
    update = 16 + 4 + 16  # the row and its number, and the row written in place
    assert counts.bytes == slice_ + near + far + update


def test_a_program_without_such_a_loop_is_refused():
    with pytest.raises(ValueError, match="the program must have one loop of 8 steps, got 0"):
        step_counts(TEXT, 8)


def compiled(n_rows, width, n_steps=7):
    """Return the text of a loop over steps that each add some rows of a data set to a state."""

    def run(x, state, rows):
        def step(state, of_step):
            return state + jnp.tanh(state) * x[of_step].sum(0), None

        return jax.lax.scan(step, state, rows)[0]

    arguments = [
        jax.ShapeDtypeStruct(*given)
        for given in (((n_rows, width), "float32"), ((width,), "float32"), ((n_steps, 5), "int32"))
    ]
    return jax.jit(run).lower(*arguments).compile().as_text()


def test_a_step_of_a_compiled_program_moves_its_rows_and_not_the_data_set():
    few, many, wide = (step_counts(compiled(*shape), 7) for shape in ((50, 256), (5000, 256), (50, 512)))
    assert few.bytes == many.bytes
    assert few.operations == wide.operations
    least = 4 * 256 * (5 + 2)  # five rows read, a state read and written
    assert least <= few.bytes <= 3 * least  # rows may be written, and read again
    assert wide.bytes == pytest.approx(2 * few.bytes, rel=0.05)
