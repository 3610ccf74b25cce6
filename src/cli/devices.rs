//! `anybit devices`: which adapters there are and what they can do.

use std::fmt::Write as _;

use anybit::gpu::{AdapterSummary, adapters};
use anyhow::{Result, bail};
use serde_json::json;

use super::common::{bytes, print};

/// List the adapters of this machine, the best one first
#[derive(clap::Args)]
#[command(after_help = "Examples:
  anybit devices
  anybit devices --json
  anybit generate --adapter 0 --prompt \"ROMEO:\"
  anybit generate --adapter llvmpipe --prompt \"ROMEO:\"

The adapter marked * is the one the other verbs take without --adapter. Exit code 2 when none is usable.")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let adapters = adapters();
    let default = adapters.iter().position(|a| a.unusable.is_none());
    if args.json {
        print(&format!("{:#}\n", json!({ "adapters": adapters, "default": default })))?;
    } else {
        let listing: String = adapters.iter().map(|a| describe(a, default == Some(a.index))).collect();
        print(&listing)?;
    }
    if adapters.is_empty() {
        bail!(
            "no Vulkan, Metal or DX12 adapter found; install a GPU driver or Mesa's software Vulkan driver \
             (Debian: apt install mesa-vulkan-drivers), or run the other verbs with --backend reference"
        );
    }
    if default.is_none() {
        bail!("none of the adapters can run anybit, see above; run the other verbs with --backend reference");
    }
    Ok(true)
}

fn describe(a: &AdapterSummary, is_default: bool) -> String {
    let mut text = String::new();
    let mut row = |label: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "     {label:<18}{value}");
    };
    row("backend", a.backend.clone());
    row("kind", a.kind.clone());
    row("driver", a.driver.clone());
    row(
        "largest buffer",
        format!("{}, {} in one binding", bytes(a.max_buffer_bytes), bytes(a.max_binding_bytes)),
    );
    row(
        "workgroup",
        format!("{} of memory, {} invocations", bytes(a.workgroup_memory_bytes.into()), a.max_workgroup),
    );
    row(
        "subgroup",
        match a.subgroup {
            (0, _) | (_, 0) => "unknown".to_string(),
            (low, high) if low == high => format!("{low} invocations"),
            (low, high) => format!("{low} to {high} invocations"),
        },
    );
    row("optional features", if a.features.is_empty() { "none".to_string() } else { a.features.join(", ") });
    if let Some(reason) = &a.unusable {
        row("UNUSABLE", reason.clone());
    }
    format!("{}{:>3}  {}\n{text}", if is_default { '*' } else { ' ' }, a.index, a.name)
}
