// times MatMul variants
use anybit::engine::*;
use anybit::format::*;
use anybit::gpu::*;
use anybit::shader::*;
use std::sync::Arc;
fn main() {
    let gpu = Arc::new(Gpu::open(OpenOptions::default()).unwrap());
    let (n, k) = (512usize, 192usize);
    let spec: Format = std::env::args().nth(1).unwrap().parse().unwrap();
    let w: Vec<f32> = (0..n * k).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 500.0).collect();
    let packed = spec.encode(&w, n, k).unwrap();
    let matrix = DeviceMatrix::upload(&gpu, "w", &packed).unwrap();
    let m = 1024usize;
    let x = gpu.buffer("x", (m * k * 4) as u64).unwrap();
    let y = gpu.buffer("y", (m * n * 4) as u64).unwrap();
    let mut rec = vec![];
    for which in std::env::args().skip(2) {
        let (kernel, tile) = match which.as_str() {
            "tiled" => (Kernel::Gemm, Tile::gemm()),
            "t32" => (Kernel::Gemm, Tile { workgroup: 64, tile_m: 32, tile_n: 32, thread_m: 4, thread_n: 4, lanes: 1 }),
            _ => (Kernel::GemmDirect, Tile::direct()),
        };
        let v = Variant { format: Some(FormatVariant::new(spec, k)), epilogue: Some(Epilogue::Store), ..Variant::plain(kernel, tile) };
        let p = gpu.pipeline(&v).unwrap();
        let part = &matrix.parts[0];
        let mut b = Binder::default();
        b.dispatch(p, &[("x", &x), ("y", &y), ("codes", &part.codes), ("scales", &part.scales)],
            &[("rows", n as u32), ("cols", k as u32), ("row_words", matrix.row_words as u32), ("groups_per_row", matrix.groups_per_row as u32), ("group", matrix.group as u32),
              ("m", m as u32), ("x_stride", k as u32), ("y_stride", n as u32), ("y_offset", 0)],
            (m as u64).div_ceil(tile.tile_m.into()) * (n as u64).div_ceil(tile.tile_n.into())).unwrap();
        rec.push((which, b.finish(&gpu).unwrap()));
    }
    for (name, r) in &rec { let t = std::time::Instant::now(); gpu.run(&[r]).unwrap(); gpu.wait().unwrap(); println!("{name} first {:?}", t.elapsed()); }
    let mut best = vec![f64::MAX; rec.len()];
    for _ in 0..10 { for (i, (_, r)) in rec.iter().enumerate() { let t = std::time::Instant::now(); gpu.run(&[r]).unwrap(); gpu.wait().unwrap(); best[i] = best[i].min(t.elapsed().as_secs_f64()); } }
    for (i, (name, _)) in rec.iter().enumerate() { println!("{spec} {name}: {:.2} ms {:.2} GOP/s", best[i] * 1e3, 2.0 * (m * n * k) as f64 / best[i] / 1e9); }
}
