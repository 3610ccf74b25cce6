//! What the host tells of itself: caches and memory.

use crate::gpu::Gpu;
use crate::shader::DeviceClass;

/// No GPU of today has a larger last-level cache; drivers do not tell.
const GPU_CACHE: u64 = 128 << 20;
/// Where the system does not tell.
const CPU_CACHE: u64 = 64 << 20;

/// Bytes of the last-level cache that copies of operands must exceed: that of the CPU for software drivers, where the
/// system tells it, else an upper bound.
pub fn cache_bytes(gpu: &Gpu) -> u64 {
    match gpu.class() {
        DeviceClass::Gpu => GPU_CACHE,
        DeviceClass::Cpu => {
            let of = |index: u32| {
                let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
                std::fs::read_to_string(path).ok().and_then(|text| size(text.trim()))
            };
            (0..8).filter_map(of).max().unwrap_or(CPU_CACHE)
        }
    }
}

/// `32768K`, `32M`
fn size(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => (text.strip_suffix('M')?, 1 << 20),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Most bytes of memory this process held at one time, where the system tells.
pub fn peak_host_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

/// Counts [`peak_host_bytes`] anew; `false` where the system does not let one.
pub fn reset_host_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_linux_writes_them() {
        assert_eq!(size("32768K"), Some(32 << 20));
        assert_eq!(size("32M"), Some(32 << 20));
        for wrong in ["", "K", "32", "x32K", "99999999999999999999K"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
