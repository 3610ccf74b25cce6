//! Microkernels that find the ceilings of a device; no model runs them.

use super::Binding;
use super::catalog::{Access, read};

/// What limits kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Bytes per second of a copy.
    Copy,
    /// f32 multiply-adds per second.
    Fma,
    /// Products of four 8-bit integers per second.
    Dot4,
}

impl Probe {
    /// All probes.
    pub const ALL: [Probe; 3] = [Probe::Copy, Probe::Fma, Probe::Dot4];
    /// Invocations per workgroup.
    pub const WORKGROUP: u32 = 64;
    /// Fields of the uniform block: vectors, turns of the loop, the number 1, workgroups side by side.
    pub const PARAMS: &'static [&'static str] = &["count", "turns", "one", "stride"];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Fma => "fma",
            Self::Dot4 => "dot4",
        }
    }

    /// The whole module.
    pub fn text(self) -> &'static str {
        match self {
            Self::Copy => include_str!("../../shaders/probe/copy.wgsl"),
            Self::Fma => include_str!("../../shaders/probe/fma.wgsl"),
            Self::Dot4 => include_str!("../../shaders/probe/dot4.wgsl"),
        }
    }

    /// Operations of one invocation: multiplications and additions of the chains.
    pub fn operations(self, turns: u32) -> u64 {
        match self {
            Self::Copy => 0,
            // 8 chains of 4 lanes, a multiplication and an addition each.
            Self::Fma => u64::from(turns) * 8 * 4 * 2,
            // 8 sums of 4 products, as many additions.
            Self::Dot4 => u64::from(turns) * 8 * 4 * 2,
        }
    }

    /// An input and an output of one vector of 16 bytes per invocation.
    pub fn bindings() -> Vec<Binding> {
        let ty = "array<vec4<u32>>";
        vec![read("x", ty), Binding { name: "y", ty, access: Access::Write }]
    }
}
