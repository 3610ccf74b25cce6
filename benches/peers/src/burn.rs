//! burn on wgpu: matrix products in f32 and with weights in blocks of 8-bit codes.

mod common;

use std::process::ExitCode;

use burn::tensor::quantization::{QuantScheme, QuantValue, ScaleDtype};
use burn::tensor::{Device, Tensor, TensorData};

use common::{Case, Engine, Operands, Product, Result};

/// Weights that share a scale.
const BLOCK: u8 = 32;

struct Burn {
    device: Device,
    name: String,
}

struct Matmul {
    device: Device,
    x: Tensor<2>,
    /// K x N, as they are multiplied.
    weights: Vec<Tensor<2>>,
    y: Option<Tensor<2>>,
}

fn main() -> ExitCode {
    common::main(|| {
        let (device, setup) =
            Device::wgpu_options().init_with_setup().map_err(|error| format!("no device: {error}"))?;
        Ok(Burn { device, name: setup.adapter.get_info().name })
    })
}

impl Engine for Burn {
    type Product = Matmul;

    fn name(&self) -> String {
        common::version("burn")
    }

    fn device(&self) -> String {
        self.name.clone()
    }

    fn layouts(&self) -> &'static [&'static str] {
        // Its linear layers keep the first; the second has its blocks along K.
        &["W of K x N", "W of N x K, transposed"]
    }

    fn bytes(&self, case: &Case) -> Result<usize> {
        let weights = case.n * case.k;
        match case.format.as_str() {
            "f32" => Ok(weights * 4),
            "q8" => Ok(weights + weights / usize::from(BLOCK) * 4),
            other => Err(format!("format {other}: want f32 or q8")),
        }
    }

    fn product(&self, case: &Case, operands: &Operands, layout: usize, copies: usize) -> Result<Matmul> {
        let Case { m, n, k, .. } = *case;
        let tensor = |values: &[f32], shape: [usize; 2]| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device)
        };
        let scheme = QuantScheme::default().with_value(QuantValue::Q8S).per_block([BLOCK], ScaleDtype::F32);
        let (values, shape) = match layout {
            0 => (&transposed(&operands.w, n, k), [k, n]),
            _ => (&operands.w, [n, k]),
        };
        let weight = || {
            let w = tensor(values, shape);
            let w = if case.format == "q8" { w.quantize_dynamic(&scheme) } else { w };
            if layout == 0 { w } else { w.transpose() }
        };
        Ok(Matmul {
            device: self.device.clone(),
            x: tensor(&operands.x, [m, k]),
            weights: (0..copies).map(|_| weight()).collect(),
            y: None,
        })
    }
}

impl Product for Matmul {
    fn weights(&self) -> Result<Vec<f32>> {
        let first = self.weights[0].clone().dequantize();
        let [k, n] = first.dims();
        Ok(transposed(&values(first)?, k, n))
    }

    fn submit(&mut self, copy: usize) -> Result<()> {
        self.y = Some(self.x.clone().matmul(self.weights[copy].clone()));
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        self.device.sync().map_err(|error| format!("the device failed: {error:?}"))
    }

    fn output(&self) -> Result<Vec<f32>> {
        values(self.y.clone().ok_or("nothing was run")?)
    }
}

fn values(tensor: Tensor<2>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|error| format!("cannot read a tensor: {error:?}"))?;
    data.try_to_vec().map_err(|error| format!("a tensor is no f32: {error:?}"))
}

/// A matrix of `rows` x `cols` the other way round.
fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|at| values[at % rows * cols + at / rows]).collect()
}
