use std::sync::Arc;
use anybit::engine::*;
use anybit::format::Spec;
use anybit::gpu::*;
use anybit::graph::*;
use anybit::model::Model;
fn cpu() -> f64 { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let r = s.rsplit(')').next().unwrap(); let f: Vec<_> = r.split_whitespace().collect(); (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) * 0.01 }
fn main() {
    let gpu = Arc::new(Gpu::open(OpenOptions::default()).unwrap());
    let model = Model::embedded().unwrap();
    let graph = Arc::new(model.graph().clone());
    let mut resident = Resident::new(gpu.clone(), None);
    for spec in std::env::args().skip(1) {
        for fused in [true, false] {
            let spec: Spec = spec.parse().unwrap();
            let assignment = Assignment::uniform(&graph, &model.native_formats(), spec);
            let options = SessionOptions { sequences: 8, context: graph.context, fused, keep: false };
            let t = std::time::Instant::now();
            let mut s = Session::new(&mut resident, graph.clone(), &model, assignment, options).unwrap();
            let losses = Losses::new(gpu.clone());
            let open = t.elapsed();
            let b = |t: u32, seqs: u32, p0: u32| { let mut b = Batch::default(); for q in 0..seqs { for p in 0..t { b.outputs.push(b.tokens.len() as u32); b.tokens.push(Token { id: 5 + p, sequence: q, position: p + p0 }); } } b };
            let mut time = |batch: &Batch, n: usize| { s.step(batch).unwrap(); losses.argmax(&s).unwrap(); let t = cpu(); for _ in 0..n { s.step(batch).unwrap(); losses.argmax(&s).unwrap(); } (cpu() - t) / n as f64 * 1e3 };
            let first = std::time::Instant::now();
            let d = time(&b(1, 1, 3), 30);
            let d64 = time(&b(1, 1, 100), 30);
            let d8 = time(&b(1, 8, 30), 10);
            let p8 = time(&b(8, 1, 0), 5);
            let p100 = time(&b(100, 1, 0), 3);
            let p1024 = time(&b(128, 8, 0), 1);
            println!("{spec} fused={fused} open {open:?} CPU ms: decode@3 {d:.1} @100 {d64:.1} batch8 {d8:.1} prefill8 {p8:.1} prefill100 {p100:.0} eval1024 {p1024:.0} total {:?}", first.elapsed());
        }
    }
}
