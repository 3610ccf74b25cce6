//! One run of a kernel on poisoned outputs with guard words behind every buffer.

use std::cell::Cell;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::error::{Result, invalid};
use crate::gpu::{Binder, Buffer, Gpu};
use crate::shader::{Kernel, Tile, Variant};

/// What outputs hold before a kernel runs: a NaN that no kernel computes. Where it is expected afterwards, the
/// kernel must not have stored.
pub(super) const POISON: u32 = 0x7fc0_dead;
/// What stands behind inputs and between their rows: a NaN, so that a stray load shows in the result.
pub(super) const STRAY: u32 = 0x7fc0_beef;
/// What stands behind outputs.
const GUARD: [u32; 32] = [0xdead_beef; 32];

/// A device on which launches are run once to be compared and, for benchmarks, more often to be timed.
pub(crate) struct Device<'a> {
    gpu: &'a Gpu,
    repeats: u32,
    elapsed: Cell<Option<Duration>>,
}

impl<'a> Device<'a> {
    pub(super) fn new(gpu: &'a Gpu, repeats: u32) -> Self {
        Self { gpu, repeats, elapsed: Cell::new(None) }
    }

    /// Time of all repeats together.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        self.elapsed.get()
    }
}

impl Deref for Device<'_> {
    type Target = Gpu;

    fn deref(&self) -> &Gpu {
        self.gpu
    }
}

/// `words` words of poison and what stands behind them.
fn poisoned(words: usize) -> Vec<u32> {
    let mut data = vec![POISON; words];
    data.extend(GUARD);
    data
}

/// Buffers by name, dispatches, and the outputs to read back.
pub(super) struct Launch<'a> {
    gpu: &'a Device<'a>,
    buffers: Vec<(&'static str, Buffer)>,
    outputs: Vec<(&'static str, Buffer, usize)>,
    binder: Binder,
}

impl<'a> Launch<'a> {
    pub(super) fn new(gpu: &'a Device<'a>) -> Self {
        Self { gpu, buffers: Vec::new(), outputs: Vec::new(), binder: Binder::default() }
    }

    /// Uploads an input, with stray words behind it.
    pub(super) fn input<T: bytemuck::Pod>(&mut self, name: &'static str, data: &[T]) -> Result<&mut Self> {
        let mut words: Vec<u32> = bytemuck::pod_collect_to_vec(bytemuck::cast_slice::<T, u8>(data));
        words.extend([STRAY; 64]);
        let buffer = self.gpu.buffer(name, (words.len() * 4) as u64)?;
        self.gpu.upload(&buffer, bytemuck::cast_slice(&words))?;
        self.buffers.push((name, buffer));
        Ok(self)
    }

    /// The same as texels, where the device keeps integer codes of x in them; whether it does.
    pub(super) fn input_codes(&mut self, name: &'static str, kernel: Kernel, codes: &[u32]) -> Result<bool> {
        if !self.takes_texels(kernel) {
            self.input(name, codes)?;
            return Ok(false);
        }
        let words = [codes, &[STRAY; 64]].concat();
        let texels = self.gpu.texels(name, &words, size_of_val(words.as_slice()) as u64)?;
        self.buffers.push((name, texels));
        Ok(true)
    }

    fn takes_texels(&self, kernel: Kernel) -> bool {
        self.gpu.keeps_texels() && kernel.row().codes.is_some()
    }

    /// An output of `words` words of poison, as texels where the device keeps integer codes of x in them; whether it does.
    pub(super) fn output_codes(&mut self, name: &'static str, kernel: Kernel, words: usize) -> Result<bool> {
        if !self.takes_texels(kernel) {
            self.output(name, words)?;
            return Ok(false);
        }
        let data = poisoned(words);
        let texels = self.gpu.texels(name, &data, size_of_val(data.as_slice()) as u64)?;
        self.outputs.push((name, texels.clone(), words));
        self.buffers.push((name, texels));
        Ok(true)
    }

    /// An output of `words` words of poison.
    pub(super) fn output(&mut self, name: &'static str, words: usize) -> Result<&mut Self> {
        let data = poisoned(words);
        let buffer = self.gpu.buffer(name, size_of_val(data.as_slice()) as u64)?;
        self.gpu.upload(&buffer, bytemuck::cast_slice(&data))?;
        self.outputs.push((name, buffer.clone(), words));
        self.buffers.push((name, buffer));
        Ok(self)
    }

    /// Appends a dispatch; `more` names buffers that only this dispatch reads.
    pub(super) fn dispatch(
        &mut self,
        variant: &Variant,
        more: &[(&str, &Buffer)],
        params: &[(&str, u32)],
        groups: u64,
    ) -> Result<&mut Self> {
        let mut buffers: Vec<(&str, &Buffer)> = self.buffers.iter().map(|(name, b)| (*name, b)).collect();
        buffers.extend(more);
        self.binder.dispatch(self.gpu.pipeline(variant)?, &buffers, params, groups)?;
        Ok(self)
    }

    /// A kernel with one invocation per element.
    pub(super) fn elementwise(
        &mut self,
        variant: &Variant,
        params: &[(&str, u32)],
        elements: usize,
    ) -> Result<&mut Self> {
        self.dispatch(variant, &[], params, (elements as u64).div_ceil(variant.tile.workgroup.into()))
    }

    /// A kernel with one workgroup, or one invocation, per row.
    pub(super) fn rowwise(
        &mut self,
        kernel: Kernel,
        params: &[(&str, u32)],
        rows: usize,
    ) -> Result<&mut Self> {
        let tile = if kernel.row().direct { Tile::rows() } else { Tile::reduction(self.gpu.class()) };
        let groups = (rows as u64).div_ceil(tile.tile_m.into());
        self.dispatch(&Variant::plain(kernel, tile), &[], params, groups)
    }

    /// Runs everything and reads the outputs in the order they were named.
    pub(super) fn finish(&mut self) -> Result<Vec<Vec<u32>>> {
        let recording = std::mem::take(&mut self.binder).finish(self.gpu)?;
        self.gpu.run(&[&recording])?;
        let read = |(name, buffer, words): &(&str, Buffer, usize)| {
            let mut data = self.gpu.read::<u32>(buffer, words + GUARD.len())?;
            if let Some(i) = data[*words..].iter().zip(GUARD).position(|(got, guard)| *got != guard) {
                invalid!("a store {i} words past the end of {name}");
            }
            data.truncate(*words);
            Ok(data)
        };
        let outputs = self.outputs.iter().map(read).collect::<Result<_>>()?;
        if self.gpu.repeats > 0 {
            let start = Instant::now();
            for _ in 0..self.gpu.repeats {
                self.gpu.run(&[&recording])?;
            }
            self.gpu.wait()?;
            self.gpu.elapsed.set(Some(start.elapsed() + self.gpu.elapsed.get().unwrap_or_default()));
        }
        Ok(outputs)
    }

    /// As [`Launch::finish`], for one output.
    pub(super) fn single(&mut self) -> Result<Vec<u32>> {
        Ok(self.finish()?.swap_remove(0))
    }
}
