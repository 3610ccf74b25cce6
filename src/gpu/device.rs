//! An open device: queue, limits, captured errors.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::adapter::{self, AdapterSummary};
use super::cache::Store;
use super::pipeline::Pipeline;
use super::tiles;
use super::timing::Timer;
use crate::error::{Error, Result};
use crate::shader::{DeviceClass, Tuning};

/// How to open a device.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Adapter number or part of its name; the best one when `None`.
    pub adapter: Option<String>,
    /// Runs shaders with bounds, division and loop checks. Off by default: the kernels are the crate's own
    /// and pass verification both ways, and the checks cost a factor of 3 to 5 on software drivers.
    pub checked: bool,
    /// Uses subgroup variants where the adapter has them.
    pub subgroups: bool,
    /// From so many rows on x of float products is read through uniform blocks where the partition is that of a software
    /// driver; `None` never. Such kernels take such a driver up to twice as long to compile, so that few rows do not
    /// pay for it, but for a GEMV, integer or float, whose x is one window and takes no dispatch more.
    pub windows: Option<u32>,
    /// Keeps code words, of weights and of rows of x, in textures where the partition is that of a software driver, which
    /// reads a texel several times as fast as storage.
    pub texels: bool,
    /// Moves vec4, alone or in pairs, as 64-bit words where the partition is that of a software driver, which takes as long
    /// for a word whatever its width.
    pub long: bool,
    /// Multiplies the floats of more than 8 rows in f16: for GPUs that do so faster, where three digits are enough. Refused
    /// where the adapter has no f16 in shaders.
    pub half: bool,
    /// Lowers the binding limit (bytes), to exercise splitting; `None` takes the adapter's.
    pub max_binding: Option<u64>,
    /// Overrides the partition class; `None` takes the adapter's kind.
    pub class: Option<DeviceClass>,
    /// Folder in which compiled pipelines are kept from one run to the next, where the driver hands them out; `None`
    /// keeps nothing. It is written when the device is dropped.
    pub pipeline_cache: Option<PathBuf>,
    /// Folder of the partitions that were measured for this device, see [`Gpu::save_tuning`]; `None` takes the defaults.
    pub tiles: Option<PathBuf>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            checked: false,
            subgroups: true,
            windows: Some(256),
            texels: true,
            long: true,
            half: false,
            max_binding: None,
            class: None,
            pipeline_cache: None,
            tiles: None,
        }
    }
}

/// An open device with its pipelines.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
    pub(super) staging: Mutex<Option<wgpu::Buffer>>,
    pub(super) timer: Mutex<Option<Timer>>,
    pub(super) allocated: Arc<AtomicU64>,
    pub(super) peak: AtomicU64,
    pub(super) tuning: Mutex<Tuning>,
    pub(super) options: OpenOptions,
    pub(super) store: Option<Store>,
    adapter: AdapterSummary,
    class: DeviceClass,
    subgroups: bool,
    /// Subgroups of at least 8, and conversion between f16 and f32.
    direct: bool,
    long: bool,
    has_half: bool,
    max_binding: u64,
    failure: Arc<Mutex<Option<Error>>>,
}

/// A panic while a lock is held cannot leave these values half-written, so poisoning carries no meaning.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn translate(error: wgpu::Error, doing: &str) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::unavailable(format!(
            "out of device memory while {doing}; choose a format with fewer bits, a shorter context or fewer sequences"
        )),
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            Error::unavailable(format!("the device refused {doing}: {description}"))
        }
    }
}

impl Gpu {
    /// Opens the chosen adapter with WebGPU default limits, apart from the buffer sizes, which are the adapter's.
    ///
    /// # Errors
    /// When there is no adapter, none matches, a needed limit is missing, or the driver refuses.
    pub fn open(options: OpenOptions) -> Result<Self> {
        let (adapter, summary) = adapter::choose(options.adapter.as_deref())?;
        let limits = adapter.limits();
        let required_limits = wgpu::Limits {
            max_buffer_size: limits.max_buffer_size,
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            ..wgpu::Limits::default()
        };
        let subgroups = options.subgroups && adapter.features().contains(wgpu::Features::SUBGROUP);
        let mut required_features = wgpu::Features::empty();
        if subgroups {
            required_features |= wgpu::Features::SUBGROUP;
        }
        let downlevel = adapter.get_downlevel_capabilities().flags;
        let direct = subgroups
            && summary.subgroup.0 >= 8
            && downlevel.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32);
        let class = options.class.unwrap_or_else(|| adapter::class(&adapter.get_info()));
        let long = options.long && class == DeviceClass::Cpu;
        let long = long && adapter.features().contains(wgpu::Features::SHADER_INT64);
        if long {
            required_features |= wgpu::Features::SHADER_INT64;
        }
        let has_half = adapter.features().contains(wgpu::Features::SHADER_F16);
        if options.half && !has_half {
            return Err(Error::unavailable(format!(
                "adapter {} has no f16 in shaders; multiply in f32, or choose another with --adapter",
                summary.name
            )));
        }
        required_features |=
            adapter.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16);
        if options.pipeline_cache.is_some() {
            required_features |= adapter.features() & wgpu::Features::PIPELINE_CACHE;
        }
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("anybit"),
            required_features,
            required_limits,
            ..Default::default()
        }))
        .map_err(|e| {
            Error::unavailable(format!(
                "adapter {} gave no device: {e}; choose another with --adapter",
                summary.name
            ))
        })?;
        let failure: Arc<Mutex<Option<Error>>> = Arc::default();
        let slot = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&slot).get_or_insert(translate(error, "running a command"));
        }));
        let slot = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lock(&slot).get_or_insert(Error::unavailable(format!(
                    "device lost ({message}); the driver reset or the adapter was removed: run again"
                )));
            }
        });
        let max_binding = options.max_binding.unwrap_or(u64::MAX).min(limits.max_storage_buffer_binding_size);
        let store = options.pipeline_cache.as_deref();
        let store = store.and_then(|folder| Store::open(&device, &summary, folder));
        let tuning = options.tiles.as_deref().map(|folder| tiles::load(folder, &summary)).unwrap_or_default();
        Ok(Self {
            store,
            device,
            queue,
            pipelines: Mutex::default(),
            tuning: Mutex::new(tuning),
            staging: Mutex::default(),
            timer: Mutex::default(),
            allocated: Arc::default(),
            peak: AtomicU64::new(0),
            options,
            adapter: summary,
            class,
            subgroups,
            direct,
            long,
            has_half,
            max_binding,
            failure,
        })
    }

    /// From how many rows on x is read through uniform blocks where it can be, if ever: software drivers read those two to
    /// three times as fast as storage.
    pub fn windows(&self) -> Option<u32> {
        self.options.windows.filter(|_| self.class == DeviceClass::Cpu && self.subgroups)
    }

    /// Whether code words can be kept in textures: software drivers read those several times as fast as storage.
    pub fn keeps_texels(&self) -> bool {
        self.options.texels && self.class == DeviceClass::Cpu
    }

    /// Whether vec4 are moved as 64-bit words.
    pub fn loads_long(&self) -> bool {
        self.long
    }

    /// Whether the device computes in f16.
    pub fn has_half(&self) -> bool {
        self.has_half
    }

    /// Whether floats of many rows are multiplied in f16.
    pub fn half(&self) -> bool {
        self.options.half
    }

    /// What the device is.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.adapter
    }

    /// Decides default partitions.
    pub fn class(&self) -> DeviceClass {
        self.class
    }

    /// Whether subgroup variants are used.
    pub fn subgroups(&self) -> bool {
        self.subgroups
    }

    /// Whether the device runs kernels of [`Method::Direct`](crate::shader::Method::Direct).
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// Largest storage-buffer binding in bytes; tensors beyond it are split.
    pub fn max_binding(&self) -> u64 {
        self.max_binding
    }

    /// Bytes of device buffers alive.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Most bytes of device buffers alive at one time since the device was opened or [`Gpu::reset_peak`].
    pub fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Counts the peak anew, from what is alive now.
    pub fn reset_peak(&self) {
        self.peak.store(self.allocated_bytes(), Ordering::Relaxed);
    }

    /// Ends the device as a driver reset would, for tests of the error path.
    #[doc(hidden)]
    pub fn destroy(&self) {
        self.device.destroy();
        lock(&self.failure).get_or_insert(Error::unavailable("device lost (destroyed); run again"));
    }

    /// The first error the device reported since it was opened; it stays, because a lost device stays lost.
    pub(super) fn check(&self) -> Result<()> {
        match &*lock(&self.failure) {
            None => Ok(()),
            Some(Error::Invalid(m)) => Err(Error::Invalid(m.clone())),
            Some(e) => Err(Error::unavailable(e.to_string())),
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if let Some(store) = self.store.as_ref().filter(|_| lock(&self.failure).is_none()) {
            store.save();
        }
    }
}
