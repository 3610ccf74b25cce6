//! Partitions that were measured: what a search over tiles finds for a device, and plans look up.

use serde::{Deserialize, Serialize};

use super::{DeviceClass, Kernel, Tile};
use crate::error::{Result, invalid};

/// Up to this many rows of x a GEMV can be used.
pub(crate) const GEMV_ROWS: usize = 8;
/// Products of more rows of x are partitioned alike.
const MOST_ROWS: usize = 512;

/// Which kind of kernel multiplies m rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One or a few rows of W per invocation or group of lanes, up to 8 rows of x.
    Gemv,
    /// Tiles in workgroup memory.
    Tiled,
    /// Tiles in registers, one or eight and more rows of x, for software drivers; needs subgroups of at least 8.
    Direct,
}

/// How a product is partitioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// The kind of kernel.
    pub method: Method,
    /// Its tile.
    pub tile: Tile,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tile { workgroup, tile_m, tile_n, thread_m, thread_n, lanes } = self.tile;
        match self.method {
            Method::Gemv => write!(f, "gemv {workgroup}: {thread_n} rows by {lanes}"),
            Method::Tiled => write!(f, "tiled {workgroup}: {tile_m}x{tile_n} of {thread_m}x{thread_n}"),
            Method::Direct => write!(f, "direct {workgroup}: {tile_m}x{tile_n} of {thread_m}x{thread_n}"),
        }
    }
}

impl Choice {
    /// The kernel it stands for, of floats or of codes.
    pub fn kernel(&self, integer: bool) -> Kernel {
        match (self.method, integer) {
            (Method::Gemv, false) => Kernel::Gemv,
            (Method::Gemv, true) => Kernel::GemvI8,
            (Method::Tiled, false) => Kernel::Gemm,
            (Method::Tiled, true) => Kernel::GemmI8,
            (Method::Direct, false) if self.tile.tile_m == 1 => Kernel::GemvDirect,
            (Method::Direct, false) => Kernel::GemmDirect,
            (Method::Direct, true) => Kernel::GemmI8Direct,
        }
    }

    /// Whether it multiplies `m` rows of x, floats or codes.
    pub fn serves(&self, m: usize, integer: bool) -> bool {
        match self.method {
            Method::Gemv => m <= self.tile.tile_m as usize,
            Method::Tiled => true,
            Method::Direct => self.tile.tile_m > 1 || m <= 1 && !integer,
        }
    }

    /// What plans use for `m` rows of x and rows of W of `k` weights where nothing was measured.
    pub fn default_for(class: DeviceClass, direct: bool, m: usize, k: usize, integer: bool) -> Self {
        let method = match class == DeviceClass::Cpu && direct {
            true if m > 1 || !integer => Method::Direct,
            false if m > GEMV_ROWS => Method::Tiled,
            _ => Method::Gemv,
        };
        let tile = match method {
            Method::Gemv => Tile::gemv(class, m, k),
            Method::Tiled => Tile::gemm(),
            Method::Direct if m <= 1 => Tile::gemv_direct(k),
            Method::Direct => Tile::direct(m, false),
        };
        Self { method, tile }
    }

    /// Every choice worth a measurement, the default one first. `direct` says that the device runs [`Method::Direct`].
    pub fn candidates(class: DeviceClass, direct: bool, m: usize, k: usize, integer: bool) -> Vec<Self> {
        let mut all = vec![Self::default_for(class, direct, m, k, integer)];
        let mut add = |method, tile: Tile| {
            let choice = Self { method, tile };
            if choice.check().is_ok() && !all.contains(&choice) {
                all.push(choice);
            }
        };
        if m <= GEMV_ROWS {
            let gemv = Tile::gemv(class, m, k);
            let (workgroups, lanes): (&[u32], &[u32]) = match class {
                DeviceClass::Gpu => (&[32, 64, 128, 256], &[1, 2, 4, 8, 16, 32, 64]),
                DeviceClass::Cpu => (&[8, 16, 32], &[1, 8]),
            };
            let chunks = (k.div_ceil(32).max(1) as u32).next_power_of_two();
            // On a GPU neighbouring invocations should read neighbouring words.
            let least = if class == DeviceClass::Gpu { chunks.min(4) } else { 1 };
            for &workgroup in workgroups {
                let fits = |lanes: &&u32| (least..=workgroup.min(chunks)).contains(*lanes);
                for &lanes in lanes.iter().filter(fits) {
                    for thread_n in [1, 2, 4, 8] {
                        add(Method::Gemv, Tile { workgroup, lanes, thread_n, ..gemv });
                    }
                }
            }
            if class == DeviceClass::Cpu && direct && m <= 1 && !integer {
                for k in [64, 4096] {
                    add(Method::Direct, Tile::gemv_direct(k));
                }
            }
        }
        if m > 1 {
            for (workgroup, tile_m, tile_n, thread_m, thread_n) in [
                (64, 64, 64, 8, 8),
                (128, 64, 64, 8, 4),
                (128, 64, 64, 4, 8),
                (256, 64, 64, 4, 4),
                (64, 32, 64, 4, 8),
                (128, 32, 64, 4, 4),
                (64, 64, 32, 8, 4),
                (64, 32, 32, 4, 4),
                (64, 16, 64, 2, 8),
                (64, 16, 32, 2, 4),
            ] {
                // Half-empty tiles cannot win, and on a CPU every barrier costs.
                if tile_m as usize >= 2 * m.max(8) || class == DeviceClass::Cpu && workgroup > 64 {
                    continue;
                }
                add(Method::Tiled, Tile { workgroup, tile_m, tile_n, thread_m, thread_n, lanes: 1 });
            }
            if class == DeviceClass::Cpu && direct {
                add(Method::Direct, Tile::direct(8, false));
                add(Method::Direct, Tile::direct(16, false));
            }
        }
        all
    }

    /// Checks what the kernel states as `const_assert`, so that a file cannot bring what does not compile.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn check(&self) -> Result<()> {
        let tile = self.tile;
        tile.check(256)?;
        let fits = match self.method {
            Method::Gemv => tile.tile_n == 1 && tile.thread_m == 1 && tile.is_gemv(),
            Method::Tiled => tile.tile_n > 1 && tile.lanes == 1,
            Method::Direct => {
                let tiles = [8, 16].map(|m| Tile::direct(m, false));
                tiles.contains(&tile) || [64, 4096].map(Tile::gemv_direct).contains(&tile)
            }
        };
        match fits {
            true => Ok(()),
            false => invalid!("{self} is no partition of this kernel; run `anybit bench tune` again"),
        }
    }
}

/// What a partition is chosen for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Product {
    /// The format as pipelines name it, see [`FormatVariant::name`](super::FormatVariant::name).
    pub format: String,
    /// Whether codes of x are multiplied.
    pub integer: bool,
    /// Rows of x, rounded up to a power of two, at most 512.
    pub m: u32,
    /// Rows of W.
    pub n: u32,
    /// Columns of W.
    pub k: u32,
}

impl Product {
    /// `m` rows of x times a matrix `[n, k]`.
    pub fn new(format: String, integer: bool, m: usize, n: usize, k: usize) -> Self {
        let m = m.clamp(1, MOST_ROWS).next_power_of_two() as u32;
        Self { format, integer, m, n: n as u32, k: k as u32 }
    }

    /// Doublings between two products that differ in the shape of W only; `None` where more differs.
    fn distance(&self, other: &Self) -> Option<f64> {
        let alike = (&self.format, self.integer, self.m) == (&other.format, other.integer, other.m);
        let apart = |a: u32, b: u32| (f64::from(a.max(1)) / f64::from(b.max(1))).log2().abs();
        alike.then(|| apart(self.n, other.n).max(apart(self.k, other.k)))
    }
}

/// The best partitions of products, as far as they were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    entries: Vec<(Product, Choice)>,
}

impl Tuning {
    /// What was found for `product`, or else for the nearest shape of W within a factor of two in both directions.
    pub fn get(&self, product: &Product) -> Option<Choice> {
        let near =
            self.entries.iter().filter_map(|(known, choice)| Some((known.distance(product)?, *choice)));
        let nearest = near.min_by(|a, b| a.0.total_cmp(&b.0));
        nearest.filter(|(distance, _)| *distance <= 1.0).map(|(_, choice)| choice)
    }

    /// Takes `choice` for `product`.
    pub fn set(&mut self, product: Product, choice: Choice) {
        self.entries.retain(|(known, _)| *known != product);
        self.entries.push((product, choice));
    }

    /// Number of products.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// See [`Choice::check`].
    ///
    /// # Errors
    /// The first choice that cannot be compiled.
    pub fn check(&self) -> Result<()> {
        self.entries.iter().try_for_each(|(_, choice)| choice.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(m: usize, n: usize, k: usize) -> Product {
        Product::new("int4 group".into(), false, m, n, k)
    }

    fn gemv(thread_n: u32) -> Choice {
        let tile = Tile { thread_n, ..Tile::gemv(DeviceClass::Gpu, 1, 4096) };
        Choice { method: Method::Gemv, tile }
    }

    #[test]
    fn one_row_of_floats_has_a_kernel_of_its_own_on_software_drivers_and_nothing_else_takes_it() {
        let kernel =
            |class, direct, m, integer| Choice::default_for(class, direct, m, 4096, integer).kernel(integer);
        assert_eq!(kernel(DeviceClass::Cpu, true, 1, false), Kernel::GemvDirect);
        assert_eq!(kernel(DeviceClass::Cpu, true, 1, true), Kernel::GemvI8);
        assert_eq!(kernel(DeviceClass::Cpu, true, 2, false), Kernel::GemmDirect);
        assert_eq!(kernel(DeviceClass::Cpu, false, 1, false), Kernel::Gemv);
        assert_eq!(kernel(DeviceClass::Gpu, true, 1, false), Kernel::Gemv);
        // A file may name it for any product.
        let one = Choice { method: Method::Direct, tile: Tile::gemv_direct(4096) };
        assert!(one.check().is_ok() && one.serves(1, false));
        assert!(!one.serves(1, true) && !one.serves(2, false));
    }

    #[test]
    fn the_nearest_shape_serves_and_no_other_format_or_number_of_rows() {
        let mut tuning = Tuning::default();
        assert_eq!(tuning.get(&product(1, 4096, 4096)), None);
        tuning.set(product(1, 4096, 4096), gemv(1));
        tuning.set(product(1, 4096, 14336), gemv(2));
        tuning.set(product(1, 4096, 14336), gemv(4));
        assert_eq!(tuning.len(), 2);
        assert_eq!(tuning.get(&product(1, 4096, 4096)), Some(gemv(1)));
        assert_eq!(tuning.get(&product(1, 5120, 5120)), Some(gemv(1)));
        assert_eq!(tuning.get(&product(1, 4096, 11008)), Some(gemv(4)));
        assert_eq!(tuning.get(&product(1, 1024, 4096)), None);
        assert_eq!(tuning.get(&product(2, 4096, 4096)), None);
        assert_eq!(tuning.get(&Product { integer: true, ..product(1, 4096, 4096) }), None);
        assert_eq!(tuning.get(&Product { format: "int8 row".into(), ..product(1, 4096, 4096) }), None);
        // Rows of x are rounded up, and many are all the same.
        assert_eq!(product(100, 1, 1).m, 128);
        assert_eq!(product(100_000, 1, 1), product(512, 1, 1));
    }

    #[test]
    fn candidates_are_legal_and_begin_with_the_default() {
        for class in [DeviceClass::Gpu, DeviceClass::Cpu] {
            for direct in [false, true] {
                for m in [1, 2, 5, 8, 9, 16, 128, 4096] {
                    for integer in [false, true] {
                        let all = Choice::candidates(class, direct, m, 4096, integer);
                        assert_eq!(all[0], Choice::default_for(class, direct, m, 4096, integer));
                        assert!(all.len() > 1 || !direct, "{class:?} {m}");
                        for choice in all {
                            choice.check().unwrap();
                            assert!(choice.method != Method::Gemv || choice.tile.tile_m as usize >= m);
                            assert!(direct || choice.method != Method::Direct);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn choices_that_do_not_compile_are_refused() {
        let tile = Tile::gemm();
        let wrong = [
            Choice { method: Method::Gemv, tile },
            Choice { method: Method::Direct, tile },
            Choice { method: Method::Tiled, tile: Tile { tile_m: 128, thread_m: 16, ..tile } },
            Choice { method: Method::Tiled, tile: Tile { workgroup: 32, ..tile } },
            Choice { method: Method::Tiled, tile: Tile { thread_m: 0, ..tile } },
            Choice { method: Method::Gemv, tile: Tile { lanes: 3, ..Tile::gemv(DeviceClass::Gpu, 1, 64) } },
            Choice {
                method: Method::Gemv,
                tile: Tile { thread_n: 0, ..Tile::gemv(DeviceClass::Gpu, 1, 64) },
            },
            Choice {
                method: Method::Gemv,
                tile: Tile { tile_m: 64, thread_n: 64, ..Tile::gemv(DeviceClass::Gpu, 8, 4096) },
            },
        ];
        for choice in wrong {
            assert!(choice.check().is_err(), "{choice:?}");
        }
        for m in [8, 16] {
            let choice = Choice { method: Method::Direct, tile: Tile::direct(m, false) };
            assert!(choice.check().is_ok(), "{choice:?}");
        }
    }
}
