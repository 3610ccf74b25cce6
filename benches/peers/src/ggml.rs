//! ggml on Vulkan: matrix products with weights in f32, q4_0 and q8_0.

mod common;

use std::ffi::{CStr, c_char};
use std::process::ExitCode;
use std::ptr;

use llama_cpp_sys_2 as sys;

use common::{Case, Engine, Operands, Product, Result};

/// Most nodes and leaves of a graph.
const GRAPH: usize = 16;

struct Ggml {
    backend: sys::ggml_backend_t,
    device: String,
}

/// Tensors on the device and a graph for each copy of the weights.
struct MulMat {
    backend: sys::ggml_backend_t,
    context: *mut sys::ggml_context,
    buffer: sys::ggml_backend_buffer_t,
    copies: Vec<Lane>,
    last: usize,
}

/// One matrix of weights and its product.
struct Lane {
    graph: *mut sys::ggml_cgraph,
    w: *mut sys::ggml_tensor,
    y: *mut sys::ggml_tensor,
}

fn main() -> ExitCode {
    common::main(Ggml::open)
}

impl Ggml {
    fn open() -> Result<Self> {
        // SAFETY: registered devices live as long as the process, and so do their names.
        unsafe {
            let devices = (0..sys::ggml_backend_dev_count()).map(|i| sys::ggml_backend_dev_get(i));
            let vulkan = |device: &sys::ggml_backend_dev_t| {
                let registry = sys::ggml_backend_dev_backend_reg(*device);
                text(sys::ggml_backend_reg_name(registry)) == "Vulkan"
            };
            let Some(device) = devices.into_iter().find(vulkan) else {
                return Err(
                    "no Vulkan device. ggml takes GPUs by itself, a software driver only when asked: set \
                            GGML_VK_VISIBLE_DEVICES=0"
                        .to_owned(),
                );
            };
            let backend = sys::ggml_backend_dev_init(device, ptr::null());
            let device = text(sys::ggml_backend_dev_description(device));
            match backend.is_null() {
                true => Err(format!("{device}: ggml cannot use this device")),
                false => Ok(Self { backend, device }),
            }
        }
    }
}

impl Drop for Ggml {
    fn drop(&mut self) {
        // SAFETY: made by `open`, and every product is gone: they are made from a borrow of this in one function.
        unsafe { sys::ggml_backend_free(self.backend) }
    }
}

impl Engine for Ggml {
    type Product = MulMat;

    fn name(&self) -> String {
        // SAFETY: a static string.
        let version = unsafe { text(sys::ggml_version()) };
        format!("ggml {version} ({})", common::version("llama-cpp-sys-2"))
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn layouts(&self) -> &'static [&'static str] {
        &["W of N x K"]
    }

    fn bytes(&self, case: &Case) -> Result<usize> {
        let kind = kind(case)?;
        // SAFETY: `kind` is one of ggml's types and K fits i64.
        Ok(case.n * unsafe { sys::ggml_row_size(kind, case.k as i64) })
    }

    fn product(&self, case: &Case, operands: &Operands, _: usize, copies: usize) -> Result<MulMat> {
        let kind = kind(case)?;
        let [m, n, k] = [case.m, case.n, case.k].map(|size| size as i64);
        // SAFETY: the context has room for all that is made in it (checked by ggml too), tensors are written with
        // exactly their bytes, and the sources have M x K and N x K values.
        unsafe {
            let each = 2 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead_custom(GRAPH, false);
            let context = sys::ggml_init(sys::ggml_init_params {
                mem_size: sys::ggml_tensor_overhead() + copies * each + (1 << 16),
                mem_buffer: ptr::null_mut(),
                no_alloc: true,
            });
            if context.is_null() {
                return Err("ggml has no memory for the graphs".to_owned());
            }
            let x = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, k, m);
            let copy = || {
                let w = sys::ggml_new_tensor_2d(context, kind, k, n);
                let y = sys::ggml_mul_mat(context, w, x);
                let graph = sys::ggml_new_graph_custom(context, GRAPH, false);
                sys::ggml_build_forward_expand(graph, y);
                Lane { graph, w, y }
            };
            let copies = (0..copies).map(|_| copy()).collect();
            let buffer = sys::ggml_backend_alloc_ctx_tensors(context, self.backend);
            // Frees both, also when this ends early.
            let product = MulMat { backend: self.backend, context, buffer, copies, last: 0 };
            if buffer.is_null() {
                return Err("the device has no memory for the tensors; give a smaller --cache".to_owned());
            }
            let device = sys::ggml_backend_get_device(self.backend);
            if !sys::ggml_backend_dev_supports_op(device, product.copies[0].y) {
                return Err("ggml has no kernel for this on the device".to_owned());
            }
            sys::ggml_backend_tensor_set(x, operands.x.as_ptr().cast(), 0, sys::ggml_nbytes(x));
            let mut codes = vec![0_u8; self.bytes(case)?];
            let source = operands.w.as_ptr();
            if kind == sys::GGML_TYPE_F32 {
                ptr::copy_nonoverlapping(source.cast(), codes.as_mut_ptr(), codes.len());
            } else {
                sys::ggml_quantize_chunk(kind, source, codes.as_mut_ptr().cast(), 0, n, k, ptr::null());
            }
            let poison = vec![f32::NAN; case.m * case.n];
            for copy in &product.copies {
                sys::ggml_backend_tensor_set(copy.w, codes.as_ptr().cast(), 0, codes.len());
                sys::ggml_backend_tensor_set(copy.y, poison.as_ptr().cast(), 0, sys::ggml_nbytes(copy.y));
            }
            Ok(product)
        }
    }
}

impl Product for MulMat {
    fn weights(&self) -> Result<Vec<f32>> {
        // SAFETY: `codes` has the tensor's bytes, `values` its elements, and the type has the conversion.
        unsafe {
            let w = self.copies[0].w;
            let mut codes = vec![0_u8; sys::ggml_nbytes(w)];
            sys::ggml_backend_tensor_get(w, codes.as_mut_ptr().cast(), 0, codes.len());
            let mut values = vec![0_f32; sys::ggml_nelements(w) as usize];
            if (*w).type_ == sys::GGML_TYPE_F32 {
                ptr::copy_nonoverlapping(codes.as_ptr(), values.as_mut_ptr().cast(), codes.len());
            } else {
                let decode = (*sys::ggml_get_type_traits((*w).type_)).to_float;
                let decode = decode.ok_or("ggml cannot decode this format")?;
                decode(codes.as_ptr().cast(), values.as_mut_ptr(), values.len() as i64);
            }
            Ok(values)
        }
    }

    fn submit(&mut self, copy: usize) -> Result<()> {
        self.last = copy;
        // SAFETY: the graph and its tensors live as long as this.
        let status = unsafe { sys::ggml_backend_graph_compute_async(self.backend, self.copies[copy].graph) };
        match status == sys::GGML_STATUS_SUCCESS {
            true => Ok(()),
            false => Err(format!("ggml failed with status {status}")),
        }
    }

    fn wait(&mut self) -> Result<()> {
        // SAFETY: the backend outlives its products.
        unsafe { sys::ggml_backend_synchronize(self.backend) };
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>> {
        let y = self.copies[self.last].y;
        // SAFETY: `values` has the elements of the f32 tensor.
        unsafe {
            let mut values = vec![0_f32; sys::ggml_nelements(y) as usize];
            sys::ggml_backend_tensor_get(y, values.as_mut_ptr().cast(), 0, sys::ggml_nbytes(y));
            Ok(values)
        }
    }
}

impl Drop for MulMat {
    fn drop(&mut self) {
        // SAFETY: made by `product`; nothing refers to them any more. Freeing a null buffer does nothing.
        unsafe {
            sys::ggml_backend_synchronize(self.backend);
            sys::ggml_backend_buffer_free(self.buffer);
            sys::ggml_free(self.context);
        }
    }
}

fn kind(case: &Case) -> Result<sys::ggml_type> {
    let kind = match case.format.as_str() {
        "f32" => sys::GGML_TYPE_F32,
        "q4_0" => sys::GGML_TYPE_Q4_0,
        "q8_0" => sys::GGML_TYPE_Q8_0,
        other => return Err(format!("format {other}: want f32, q4_0 or q8_0")),
    };
    // SAFETY: the type is ggml's own.
    let block = unsafe { sys::ggml_blck_size(kind) } as usize;
    match case.k.is_multiple_of(block) {
        true => Ok(kind),
        false => Err(format!("K is {}; {} wants a multiple of {block}", case.k, case.format)),
    }
}

/// # Safety
/// `text` is a string with its NUL.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
