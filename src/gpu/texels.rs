//! Textures of words: operands that a software driver reads several times as fast as storage.

use super::buffer::{Buffer, Memory, UPLOAD_SLICE};
use super::device::{Gpu, translate};
use crate::error::{Error, Result};
use crate::shader::TEXELS;

/// Bytes of a texel of four words.
const TEXEL: usize = 16;
/// Bytes of a line of texels.
const LINE: usize = TEXEL * TEXELS as usize;
/// Lines of the largest texture every WebGPU device has.
const MAX_LINES: usize = 8192;

impl Gpu {
    /// Largest size of [`Gpu::texels`], bytes.
    pub const MAX_TEXELS: u64 = (LINE * MAX_LINES) as u64;

    /// A texture of at least `bytes` that begins with `words`, four to a texel, and is zero after them; a kernel reads it
    /// or stores it.
    ///
    /// # Errors
    /// When it exceeds [`Gpu::MAX_TEXELS`] or the device is out of memory.
    pub fn texels(&self, label: &str, words: &[u32], bytes: u64) -> Result<Buffer> {
        self.check()?;
        let data: &[u8] = bytemuck::cast_slice(words);
        let bytes = bytes.max(data.len() as u64).max(1);
        if bytes > Self::MAX_TEXELS {
            let most = Self::MAX_TEXELS;
            return Err(Error::unavailable(format!(
                "{label} needs {bytes} bytes in one texture; {most} are possible"
            )));
        }
        let lines = bytes.div_ceil(LINE as u64) as u32;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let texture = self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width: TEXELS, height: lines, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba32Uint,
            usage: wgpu::TextureUsages::STORAGE_BINDING
                | wgpu::TextureUsages::COPY_DST
                | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let errors = [pollster::block_on(validation.pop()), pollster::block_on(memory.pop())];
        if let Some(error) = errors.into_iter().flatten().next() {
            return Err(translate(error, &format!("allocating {bytes} bytes for {label}")));
        }
        let write = |line: usize, lines: usize, texels: usize, data: &[u8]| {
            let mut to = texture.as_image_copy();
            to.origin.y = line as u32;
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(LINE as u32),
                rows_per_image: None,
            };
            let size =
                wgpu::Extent3d { width: texels as u32, height: lines as u32, depth_or_array_layers: 1 };
            self.queue.write_texture(to, data, layout, size);
        };
        let mut line = 0;
        for part in data.chunks(UPLOAD_SLICE) {
            let (whole, rest) = part.split_at(part.len() / LINE * LINE);
            if !whole.is_empty() {
                write(line, whole.len() / LINE, TEXELS as usize, whole);
                line += whole.len() / LINE;
            }
            if !rest.is_empty() {
                let mut rest = rest.to_vec();
                rest.resize(rest.len().next_multiple_of(TEXEL), 0);
                write(line, 1, rest.len() / TEXEL, &rest);
            }
            if part.len() == UPLOAD_SLICE {
                self.queue.submit([]);
                self.wait()?;
            }
        }
        self.check()?;
        let size = u64::from(lines) * LINE as u64;
        Ok(self.account(
            Memory::Texels(texture.create_view(&wgpu::TextureViewDescriptor::default())),
            bytes,
            size,
        ))
    }
}

/// Bytes of whole lines that hold `bytes`.
pub(super) fn whole_lines(bytes: u64) -> u64 {
    bytes.next_multiple_of(LINE as u64)
}

/// Appends a copy of the first `bytes` of `texels`, whole lines, to the start of `to`.
pub(super) fn copy_lines(
    encoder: &mut wgpu::CommandEncoder,
    texels: &wgpu::TextureView,
    to: &wgpu::Buffer,
    bytes: u64,
) {
    let lines = (bytes / LINE as u64) as u32;
    let layout =
        wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(LINE as u32), rows_per_image: None };
    let size = wgpu::Extent3d { width: TEXELS, height: lines, depth_or_array_layers: 1 };
    let to = wgpu::TexelCopyBufferInfo { buffer: to, layout };
    encoder.copy_texture_to_buffer(texels.texture().as_image_copy(), to, size);
}
