//! Numeric formats: what a weight matrix looks like in memory, in a file and in a kernel.
//!
//! A [`Format`] is one row of a family (`float`, `int`, `mxint`, `radix`). [`Format::encode`] rounds an f32
//! matrix to a [`Packed`] one (the host does all weight rounding), [`Packed::decode`] is the exact
//! inverse map from codes to f32, and the WGSL fragment of the family decodes the same words on the
//! device. A [`Spec`] is the text people write: `W` or `W@A`.
