//! anybit runs, measures and validates low-bit neural networks on any Vulkan, Metal or DX12 GPU.

pub mod cases;
pub mod engine;
pub mod error;
pub mod eval;
pub mod format;
pub mod gpu;
pub mod graph;
pub mod model;
pub mod reference;
pub mod run;
pub mod shader;

pub use error::{Error, Result};
