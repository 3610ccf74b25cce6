//! Partition of a kernel: how many outputs a workgroup and an invocation own.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What kind of processor executes the kernels; decides the default partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceClass {
    /// A GPU: wide workgroups, cooperating invocations.
    Gpu,
    /// A software driver: a workgroup runs on one CPU thread, cooperation costs, so narrow workgroups win.
    Cpu,
}

/// Partition constants; see the head of each kernel for their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tile {
    /// Invocations per workgroup.
    pub workgroup: u32,
    /// Rows of Y per workgroup.
    pub tile_m: u32,
    /// Columns of Y per workgroup (GEMM).
    pub tile_n: u32,
    /// Rows of Y per invocation (GEMM).
    pub thread_m: u32,
    /// Columns of Y per invocation.
    pub thread_n: u32,
    /// Invocations that share one dot product (GEMV).
    pub lanes: u32,
}

/// Bytes of workgroup memory every WebGPU device has.
pub(super) const WORKGROUP_MEMORY: u32 = 16384;

impl Tile {
    const fn flat(workgroup: u32) -> Self {
        Self { workgroup, tile_m: 1, tile_n: 1, thread_m: 1, thread_n: 1, lanes: 1 }
    }

    /// For kernels with one invocation per element.
    pub const fn elementwise() -> Self {
        Self::flat(64)
    }

    /// For kernels with one workgroup per row.
    pub const fn reduction(class: DeviceClass) -> Self {
        Self::flat(match class {
            DeviceClass::Gpu => 128,
            DeviceClass::Cpu => 32,
        })
    }

    /// For attention, one workgroup per token and head.
    pub const fn attention(class: DeviceClass) -> Self {
        Self::flat(match class {
            DeviceClass::Gpu => 64,
            DeviceClass::Cpu => 8,
        })
    }

    /// For attention in registers, one workgroup per 8 tokens and head.
    pub const fn attention_direct() -> Self {
        Self { tile_m: 8, ..Self::flat(8) }
    }

    /// For kernels with one invocation per row.
    pub const fn rows() -> Self {
        Self { tile_m: 8, ..Self::flat(8) }
    }

    /// For GEMV over `m` (1 to 8) tokens and rows of `cols` weights.
    pub fn gemv(class: DeviceClass, m: usize, cols: usize) -> Self {
        let tile_m = (m.clamp(1, 8) as u32).next_power_of_two();
        match class {
            // More rows share a load of x and take longer to compile, which short rows do not pay for.
            DeviceClass::Cpu => {
                let thread_n = match (tile_m, cols) {
                    (1, 1024..) => 8,
                    (1, _) => 4,
                    _ => 2,
                };
                Self { tile_m, thread_n, ..Self::flat(8) }
            }
            DeviceClass::Gpu => {
                let chunks = (cols.div_ceil(32).max(1) as u32).next_power_of_two();
                Self { tile_m, lanes: chunks.min(32), thread_n: 1, ..Self::flat(64) }
            }
        }
    }

    /// For GEMV in registers of one row of x by rows of `cols` weights.
    pub const fn gemv_direct(cols: usize) -> Self {
        Self { thread_n: if cols < 1024 { 4 } else { 8 }, ..Self::flat(8) }
    }

    /// The tile of a GEMV for a product whose columns are each of two rows of W ([`super::Epilogue::Gated`]).
    pub const fn gated(self) -> Self {
        // In registers they are four of either; elsewhere any even number.
        let thread_n =
            if self.tile_m == 1 && self.lanes == 1 && self.workgroup == 8 { 8 } else { self.thread_n };
        Self { thread_n: thread_n.next_multiple_of(2), ..self }
    }

    /// For tiled GEMM.
    pub const fn gemm() -> Self {
        Self { workgroup: 64, tile_m: 64, tile_n: 64, thread_m: 8, thread_n: 8, lanes: 1 }
    }

    /// For GEMM in registers (`lib/direct.wgsl`) of `m` rows of floats or codes. Integer sums that are scaled chunk by
    /// chunk (`by_chunks`) leave no registers for more than 8 rows.
    pub const fn direct(m: usize, by_chunks: bool) -> Self {
        let tile_m = if m > 8 && !by_chunks { 16 } else { 8 };
        Self { workgroup: 8, tile_m, tile_n: 32, thread_m: tile_m, thread_n: 4, lanes: 1 }
    }

    /// For GEMM in registers of codes of 4 or 2 bits.
    pub const fn narrow() -> Self {
        Self { tile_m: 16, thread_m: 16, ..Self::direct(8, false) }
    }

    /// Whether the partial sums of a GEMV fit registers and workgroup memory.
    pub(super) fn is_gemv(&self) -> bool {
        let sums = self.tile_m.saturating_mul(self.thread_n);
        let partial = self.workgroup.saturating_mul(sums).saturating_mul(4);
        (1..=8).contains(&self.tile_m)
            && (1..=64).contains(&sums)
            && (self.lanes == 1 || partial <= WORKGROUP_MEMORY)
    }

    /// Constants of the generated header.
    pub(super) fn constants(&self) -> [(&'static str, u32); 6] {
        [
            ("WORKGROUP", self.workgroup),
            ("TILE_M", self.tile_m),
            ("TILE_N", self.tile_n),
            ("THREAD_M", self.thread_m),
            ("THREAD_N", self.thread_n),
            ("LANES", self.lanes),
        ]
    }

    /// Checks the preconditions that the kernels state as `const_assert`.
    ///
    /// # Errors
    /// Names the first constant that does not fit.
    pub fn check(&self, max_workgroup: u32) -> Result<()> {
        let fail = |what: String| Err(Error::Invalid(what));
        if self.workgroup == 0 || self.workgroup > max_workgroup {
            return fail(format!(
                "workgroup of {} invocations; this device runs 1 to {max_workgroup}: choose a smaller tile",
                self.workgroup
            ));
        }
        if self.lanes == 0 || !self.workgroup.is_multiple_of(self.lanes) || !self.lanes.is_power_of_two() {
            return fail(format!(
                "{} lanes do not divide a workgroup of {}; choose a power of two that does",
                self.lanes, self.workgroup
            ));
        }
        if self.tile_n > 1 {
            let (per_m, per_n) = (self.thread_m.max(1), self.thread_n.max(1));
            let grid = (self.tile_m / per_m).saturating_mul(self.tile_n / per_n);
            let whole = self.tile_m.is_multiple_of(per_m) && self.tile_n.is_multiple_of(per_n);
            if grid != self.workgroup || !whole || self.thread_m == 0 || self.thread_n == 0 {
                return fail(format!(
                    "a {}x{} tile of {}x{} sums per invocation needs {grid} invocations, the workgroup has {}",
                    self.tile_m, self.tile_n, self.thread_m, self.thread_n, self.workgroup
                ));
            }
            if self.tile_m.saturating_add(self.tile_n).saturating_mul(128) > WORKGROUP_MEMORY {
                return fail(format!(
                    "a {}x{} tile needs {} bytes of workgroup memory, {WORKGROUP_MEMORY} are portable",
                    self.tile_m,
                    self.tile_n,
                    self.tile_m.saturating_add(self.tile_n).saturating_mul(128)
                ));
            }
        }
        Ok(())
    }
}
