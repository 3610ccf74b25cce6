//! The heat maps of a study: which layer has which format, and what formats do to layers.

use super::Summary;
use super::analysis::{Effect, Effects, Transform};
use super::heat::{Bar, Cell, HeatMap};
use super::table::thin;
use super::text::{bytes, common_prefix, number, significant};

/// Columns of the map of choices; of a longer front, so many spread evenly.
const MOST_COLUMNS: usize = 32;

/// Harms below so many standard errors are not shown: with ten groups one of a hundred harmless candidates has more.
const CLEAR: f64 = 3.5;

/// Names of the dimensions without what all of them begin with, and that beginning.
pub(super) fn short_names(summary: &Summary) -> (Vec<String>, String) {
    let names: Vec<&str> = summary.dimensions.iter().map(|d| d.name.as_str()).collect();
    let prefix = common_prefix(&names);
    (names.iter().map(|name| name[prefix.len()..].to_owned()).collect(), prefix.to_owned())
}

fn rows(summary: &Summary) -> Vec<(String, String)> {
    let about = |d: &super::Searched| match d.layers.as_slice() {
        [layer] => format!("{} [{}, {}]", d.name, layer.rows, layer.cols),
        _ => format!("{}, {} weights", d.name, d.weights()),
    };
    short_names(summary).0.into_iter().zip(summary.dimensions.iter().map(about)).collect()
}

/// Layers against front and best, by stored bits per weight. Also how many of the front are left out.
pub(super) fn choices(summary: &Summary) -> Option<(HeatMap, usize)> {
    let all = summary.chosen();
    let chosen = thin(&all, MOST_COLUMNS, |(trial, _)| Some(trial.number) == summary.best);
    let table: Vec<Vec<Option<f64>>> = bits(summary);
    // The scale is that of the whole space, so that pages of one space can be compared.
    let known = || table.iter().flatten().flatten().copied().filter(|bits| *bits > 0.0);
    let (low, high) =
        known().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), b| (low.min(b), high.max(b)));
    let share = |bits: f64| if high > low { (bits / low).log2() / (high / low).log2() } else { 0.5 };
    let column = |(trial, m): &(&super::Trial, &super::Measurement)| {
        let best = Some(trial.number) == summary.best;
        let star = if best { "★ " } else { "" };
        let text = format!("{star}#{} {}", trial.number, bytes(summary.size().bytes(m) as f64));
        let about = format!("trial {}, KL {}, loss {:.4}", trial.number, number(m.kl), m.loss);
        (text, if best { format!("best: {about}") } else { about })
    };
    let cell = |d: usize, trial: &super::Trial| {
        let bits = table[d].get(*trial.point.get(d)?).copied().flatten();
        let tip = format!("{}\n{}", summary.spec(trial, d), bits.map_or_else(String::new, bits_text));
        bits.map(|bits| Cell { share: share(bits), text: significant(bits, 3), tip })
    };
    let mut marks: Vec<f64> = known().collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup_by(|a, b| significant(*a, 3) == significant(*b, 3));
    let map = HeatMap {
        label: "Bits per weight of each layer in the chosen trials".to_owned(),
        rows: rows(summary),
        columns: chosen.iter().map(column).collect(),
        cells: (0..summary.dimensions.len())
            .map(|d| chosen.iter().map(|(trial, _)| cell(d, trial)).collect())
            .collect(),
        bar: Bar {
            title: "stored bits per weight".to_owned(),
            marks: marks.iter().map(|&bits| (share(bits), significant(bits, 3))).collect(),
        },
    };
    (!chosen.is_empty() && !summary.dimensions.is_empty()).then(|| (map, all.len() - chosen.len()))
}

fn bits_text(bits: f64) -> String {
    format!("{} bits/weight", significant(bits, 4))
}

fn bits(summary: &Summary) -> Vec<Vec<Option<f64>>> {
    summary
        .dimensions
        .iter()
        .map(|d| (0..d.candidates.len()).map(|choice| d.bits(choice)).collect())
        .collect()
}

/// Layers against candidates: the harm of each.
pub(super) fn harms(summary: &Summary, effects: &Effects) -> HeatMap {
    let bits = bits(summary);
    // Columns are specs, those of fewest bits first; a spec's bits may differ a little between layers.
    let mut specs: Vec<(&str, f64)> = Vec::new();
    for (dimension, bits) in summary.dimensions.iter().zip(&bits) {
        for (candidate, bits) in dimension.candidates.iter().zip(bits) {
            if !specs.iter().any(|(spec, _)| spec == candidate) {
                specs.push((candidate, bits.unwrap_or(f64::INFINITY)));
            }
        }
    }
    specs.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = effects.effects.iter().flatten().flatten().map(|effect| effect.harm).fold(0.0, f64::max);
    // Harms span decades: a root shows small ones too. Logarithms are spread already.
    let power = if effects.transform == Transform::Identity { 0.5 } else { 1.0 };
    let share = |harm: f64| if most > 0.0 { (harm / most).powf(power) } else { 0.0 };
    let text = |harm: f64| match effects.transform {
        Transform::Identity => significant(harm, 2),
        Transform::Log => format!("×{}", significant(harm.exp(), 2)),
    };
    let cell = |d: usize, spec: &str| {
        let choice = summary.dimensions[d].candidates.iter().position(|candidate| candidate == spec)?;
        let effect: Effect = (*effects.effects.get(d)?.get(choice)?)?;
        let clear = effect.harm > CLEAR * effect.error;
        let harm = match effects.transform {
            Transform::Identity => {
                format!("+{} ± {}", significant(effect.harm, 3), significant(effect.error, 2))
            }
            Transform::Log => {
                format!(
                    "× {}, error × {}",
                    significant(effect.harm.exp(), 3),
                    significant(effect.error.exp(), 3)
                )
            }
        };
        Some(Cell {
            // What may be noise is not drawn: it looks like the best.
            share: if clear { share(effect.harm) } else { 0.0 },
            text: if clear { text(effect.harm) } else { String::new() },
            tip: format!("{harm}\n{} trials", effect.trials),
        })
    };
    let marks =
        (0..=4).map(|i| f64::from(i) / 4.0).map(|place| (place, text(most * place.powf(1.0 / power))));
    HeatMap {
        label: "Harm of each candidate of each layer".to_owned(),
        rows: rows(summary),
        columns: specs.iter().map(|(spec, _)| ((*spec).to_owned(), (*spec).to_owned())).collect(),
        cells: (0..summary.dimensions.len())
            .map(|d| specs.iter().map(|(spec, _)| cell(d, spec)).collect())
            .collect(),
        bar: Bar {
            title: match effects.transform {
                Transform::Identity => "harm over the layer's best candidate, nats/token".to_owned(),
                Transform::Log => "factor over the layer's best candidate".to_owned(),
            },
            marks: marks.collect(),
        },
    }
}
