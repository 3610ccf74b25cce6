//! The device: adapters, buffers, pipelines, recordings. The only module that uses wgpu.

mod adapter;
mod buffer;
mod cache;
mod device;
mod pipeline;
mod recording;
mod texels;
mod tiles;
mod timing;
mod window;

pub use adapter::{AdapterSummary, adapters};
pub use buffer::Buffer;
pub use device::{Gpu, OpenOptions};
pub use pipeline::Pipeline;
pub use recording::{Binder, Recording};
pub use timing::Clock;
