//! `anybit formats plot`

use std::path::PathBuf;

use anybit::format::Spec;
use anybit::model::atomic;
use anyhow::Result;

use super::super::common::print;
use super::chart::{Axis, svg};
use super::{EMBEDDED, Source, entries, json_of};

/// Draw the values of formats, and their SQNR against their bits, as SVG
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit formats plot int4 mxint4 mxfp4 nvfp4 nf4 \"base11(group=32)\"
  anybit formats plot \"minifloat_ieee(8,4)\" \"minifloat_denorm(8,4)\" \"log(8)\" --axis log --out floats.svg")]
pub(crate) struct Args {
    /// Formats to draw
    #[arg(value_name = "SPEC", required = true)]
    specs: Vec<Spec>,
    /// The chart; appears complete or not at all
    #[arg(long, value_name = "FILE", default_value = "formats.svg")]
    out: PathBuf,
    /// Model whose weights are rounded: a folder, or a .safetensors file that is not packed
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_value = EMBEDDED, default_missing_value = EMBEDDED)]
    model: PathBuf,
    /// How values are laid out
    #[arg(long, value_enum, default_value_t = Axis::Auto)]
    axis: Axis,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// The shape that bits are given for in JSON, as in the listing.
const SHAPE: (usize, usize) = (4096, 4096);

pub(crate) fn run(args: &Args) -> Result<bool> {
    let source = Source::open(&args.model)?;
    let mut entries = entries(&args.specs, SHAPE);
    source.measure(&mut entries)?;
    let text = svg(&entries, &source.describe(), args.axis)?;
    atomic::write(&args.out, text.as_bytes())?;
    if args.json {
        let mut json = json_of(&entries, SHAPE, Some(&source));
        json["output"] = args.out.display().to_string().into();
        print(&format!("{json}\n"))?;
    } else {
        print(&format!("{}: {} formats on {}\n", args.out.display(), entries.len(), source.describe()))?;
    }
    Ok(true)
}
