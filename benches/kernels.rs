//! Times the case table on the best adapter: `cargo bench --bench kernels -- 'gemv<int4 group> int4(group=32)'`.
//!
//! Every case is verified before it is timed. The argument is a part of the names of cases; without one the covering
//! cases run. What is timed is the dispatch
//! with its submission, not uploads or read-back; the matrices are small, so on a GPU the times are those of a
//! launch. `anybit bench kernels` times large matrices by the device's own clock, `anybit bench model` whole models.

use std::time::Duration;

use anybit::cases::{self, Filter};
use anybit::gpu::{Gpu, OpenOptions};
use criterion::Criterion;

fn main() {
    // `cargo test --benches` leaves this out.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("nothing is timed in tests; run `cargo bench --bench kernels`");
        return;
    }
    let gpu = match Gpu::open(OpenOptions::default()) {
        Ok(gpu) => gpu,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
    };
    println!("device: {}", gpu.adapter().name);
    // Criterion's own filter is a regular expression, in which `int4(group=32)` would not mean itself.
    let text = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let filter = Filter { cover: text.is_none(), text, ..Filter::default() };
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    for case in cases::all() {
        if !filter.accepts(&case) || !cases::available(&gpu, case.kernel) {
            continue;
        }
        match case.time(&gpu, 1) {
            (result, None) if !result.pass => eprintln!("{}: FAIL, not timed: {:?}", case.name(), result.at),
            (_, None) => {}
            (_, Some(_)) => {
                criterion.bench_function(&case.name(), |bencher| {
                    bencher.iter_custom(|n| {
                        let repeats = u32::try_from(n).unwrap_or(u32::MAX);
                        case.time(&gpu, repeats).1.unwrap_or(Duration::MAX)
                    });
                });
            }
        }
    }
    criterion.final_summary();
}
