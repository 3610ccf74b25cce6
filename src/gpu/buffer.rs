//! Device buffers: allocation, upload, read-back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::device::{Gpu, lock, translate};
use super::texels;
use super::window::{ALIGNMENT, WINDOW};
use crate::error::{Error, Result};

/// Staging of uploads is bounded by submitting after this many bytes.
pub(super) const UPLOAD_SLICE: usize = 32 << 20;
/// Read-backs of up to this many bytes share one staging buffer.
const STAGING_BYTES: u64 = 1 << 20;

/// Memory on the device, zero-initialised: a buffer, or a texture of words. Cloning shares it.
#[derive(Clone)]
pub struct Buffer {
    pub(super) memory: Memory,
    bytes: u64,
    _accounted: Arc<Accounted>,
}

#[derive(Clone)]
pub(super) enum Memory {
    Buffer(wgpu::Buffer),
    Texels(wgpu::TextureView),
}

struct Accounted {
    bytes: u64,
    total: Arc<AtomicU64>,
}

impl Drop for Accounted {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is a texture of words.
    pub fn is_texels(&self) -> bool {
        matches!(self.memory, Memory::Texels(_))
    }

    /// The buffer, where it is one.
    pub(super) fn raw(&self) -> Result<&wgpu::Buffer> {
        match &self.memory {
            Memory::Buffer(raw) => Ok(raw),
            Memory::Texels(_) => Err(Error::invalid("a texture of words stands where a buffer is needed")),
        }
    }
}

impl Gpu {
    /// Allocates a storage buffer of at least `bytes`.
    ///
    /// # Errors
    /// When it exceeds the binding limit or the device is out of memory.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        // A little room over the limit that plans see, because small buffers are padded.
        let limit = self.max_binding().saturating_add(256);
        self.allocate(label, bytes, wgpu::BufferUsages::STORAGE, limit)
    }

    /// Allocates a uniform buffer; kernels bind small blocks of it.
    ///
    /// # Errors
    /// As [`Gpu::buffer`], with the limit of a whole buffer.
    pub fn uniform(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.allocate(label, bytes, wgpu::BufferUsages::UNIFORM, self.adapter().max_buffer_bytes)
    }

    fn allocate(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages, limit: u64) -> Result<Buffer> {
        self.check()?;
        let bytes = bytes.max(16).checked_next_multiple_of(16).unwrap_or(u64::MAX);
        // Where buffers are read through uniform windows, every one shows at least one.
        let windows = usage == wgpu::BufferUsages::STORAGE && self.windows().is_some();
        let (usage, size) = match windows {
            true => (usage | wgpu::BufferUsages::UNIFORM, bytes.max(WINDOW).next_multiple_of(ALIGNMENT)),
            false => (usage, bytes),
        };
        if bytes > limit {
            return Err(Error::unavailable(format!(
                "{label} needs {bytes} bytes in one binding, this device allows {}; use fewer tokens, sequences or \
                 a shorter context",
                limit.min(self.max_binding())
            )));
        }
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage: usage | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let errors = [pollster::block_on(validation.pop()), pollster::block_on(memory.pop())];
        if let Some(error) = errors.into_iter().flatten().next() {
            return Err(translate(error, &format!("allocating {bytes} bytes for {label}")));
        }
        Ok(self.account(Memory::Buffer(raw), bytes, size))
    }

    pub(super) fn account(&self, memory: Memory, bytes: u64, size: u64) -> Buffer {
        let before = self.allocated.fetch_add(size, Ordering::Relaxed);
        self.peak.fetch_max(before + size, Ordering::Relaxed);
        let accounted = Accounted { bytes: size, total: self.allocated.clone() };
        Buffer { memory, bytes, _accounted: Arc::new(accounted) }
    }

    /// Copies `data` to the start of `buffer`; its length must be a multiple of 4.
    ///
    /// # Errors
    /// When the device failed.
    pub fn upload(&self, buffer: &Buffer, data: &[u8]) -> Result<()> {
        debug_assert!(data.len() as u64 <= buffer.bytes);
        let raw = buffer.raw()?;
        for (i, part) in data.chunks(UPLOAD_SLICE).enumerate() {
            self.queue.write_buffer(raw, (i * UPLOAD_SLICE) as u64, part);
            if part.len() == UPLOAD_SLICE {
                self.queue.submit([]);
                self.wait()?;
            }
        }
        self.check()
    }

    /// Copies the whole of `from` to the start of `to`, on the device.
    ///
    /// # Errors
    /// When `to` is smaller or the device failed.
    pub fn copy(&self, from: &Buffer, to: &Buffer) -> Result<()> {
        self.copies(&[(from.clone(), to.clone())])
    }

    /// Several such copies, from the first of each pair to the second, in one submission.
    ///
    /// # Errors
    /// As [`Gpu::copy`].
    pub fn copies(&self, pairs: &[(Buffer, Buffer)]) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (from, to) in pairs {
            if to.bytes < from.bytes {
                return Err(Error::invalid(format!("a copy of {} bytes into {}", from.bytes, to.bytes)));
            }
            encoder.copy_buffer_to_buffer(from.raw()?, 0, to.raw()?, 0, from.bytes);
        }
        self.queue.submit([encoder.finish()]);
        self.check()
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn wait(&self) -> Result<()> {
        self.check()?;
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| Error::unavailable(format!("device lost while waiting for it ({e}); run again")))?;
        self.check()
    }

    /// Reads the first `count` elements of `buffer`.
    ///
    /// # Errors
    /// When the device failed.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, count: usize) -> Result<Vec<T>> {
        let bytes = (count * size_of::<T>()) as u64;
        debug_assert!(bytes <= buffer.bytes);
        if bytes == 0 {
            return Ok(Vec::new());
        }
        self.check()?;
        let size = match buffer.memory {
            Memory::Buffer(_) => bytes.next_multiple_of(4),
            Memory::Texels(_) => texels::whole_lines(bytes),
        };
        let shared = if size <= STAGING_BYTES { lock(&self.staging).take() } else { None };
        let staging = shared.unwrap_or_else(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: size.max(STAGING_BYTES),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        match &buffer.memory {
            Memory::Buffer(raw) => encoder.copy_buffer_to_buffer(raw, 0, &staging, 0, size),
            Memory::Texels(view) => texels::copy_lines(&mut encoder, view, &staging, size),
        }
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, 0..size, |_| {});
        self.wait()?;
        let view = staging.get_mapped_range(0..size).map_err(|e| {
            Error::unavailable(format!("cannot read {bytes} bytes back from the device: {e}"))
        })?;
        let mut values = vec![T::zeroed(); count];
        bytemuck::cast_slice_mut(&mut values).copy_from_slice(&view[..bytes as usize]);
        drop(view);
        staging.unmap();
        if staging.size() == STAGING_BYTES {
            *lock(&self.staging) = Some(staging);
        }
        Ok(values)
    }
}
