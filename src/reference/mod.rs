//! CPU truth: every op of a [`Graph`](crate::graph::Graph) as a plain function, and an [`Executor`] that
//! runs a graph with them.
//!
//! Values are f32 between ops, as on a device; inside an op every sum and every transcendental function
//! is f64 and the result is rounded once. Kernels are compared with these functions
//! ([`Comparison`]), and [`Executor::run_nodes`] names the first node where another executor differs.
//!
//! The functions take slices whose lengths follow from the documented shapes and panic when they do not;
//! the executor checks shapes and batches beforehand and returns errors.

mod attention;
mod compare;
mod executor;
mod linear;
mod loss;
mod ops;

pub use attention::{Heads, attention, attention_scores, attention_values};
pub use compare::{Comparison, nmse};
pub use executor::Executor;
pub use linear::{IntegerMatrix, integer_accumulators, linear, linear_integer, linear_quantized};
pub use loss::{argmax, cross_entropy, kl_divergence};
pub use ops::{activate, add, embed, layer_norm, mul, rms_norm, rope, slice, softmax};
