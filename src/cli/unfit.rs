//! Warnings about formats that cannot hold the weights they are meant for.

use std::collections::HashMap;

use anybit::format::suitability::{Reason, TensorStatistics, Warning, check, may_warn};
use anybit::format::{Format, Spec};
use anybit::graph::{Assignment, Role, Weights as _};
use anybit::model::{Model, Reader, matrices};
use anyhow::Result;
use serde_json::{Value, json};

/// A warning about one tensor.
pub(crate) struct Finding {
    tensor: String,
    warning: Warning,
}

/// Checks the matrices of a model; reads only those whose format may be unfit.
pub(crate) fn of_model(model: &Model, assignment: &Assignment) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let weights = model.graph().weights.iter().zip(&assignment.specs).enumerate();
    for (id, (weight, spec)) in weights {
        if weight.role != Role::Vector && may_warn(spec.weight) {
            let values = model.packed(id, Format::F32)?.decode();
            findings.extend(of_values(&weight.tensor, spec.weight, &values));
        }
    }
    Ok(findings)
}

/// Checks the matrices of a tensor file that have a spec.
pub(crate) fn of_file(reader: &Reader, specs: &HashMap<String, Spec>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for matrix in matrices(reader.file(), false) {
        let format = specs.get(matrix.name).map(|spec| spec.weight).filter(|&format| may_warn(format));
        if let (Some(format), Some(tensor)) = (format, reader.file().get(matrix.name)) {
            findings.extend(of_values(matrix.name, format, &reader.file().widen(tensor)?));
        }
    }
    Ok(findings)
}

fn of_values(tensor: &str, format: Format, values: &[f32]) -> Vec<Finding> {
    let warnings = check(format, &TensorStatistics::new(values));
    warnings.into_iter().map(|warning| Finding { tensor: tensor.to_owned(), warning }).collect()
}

/// One line per tensor and reason, or (unless `all`) per format and reason, with the first tensor as example.
pub(crate) fn lines(findings: &[Finding], all: bool) -> Vec<String> {
    let mut groups: Vec<(&Finding, usize)> = Vec::new();
    for finding in findings {
        let same = |(first, _): &&mut (&Finding, usize)| {
            let (a, b) = (first.warning, finding.warning);
            a.format == b.format && a.reason.name() == b.reason.name()
        };
        match groups.iter_mut().find(same).filter(|_| !all) {
            Some((_, count)) => *count += 1,
            None => groups.push((finding, 1)),
        }
    }
    let line = |(Finding { tensor, warning }, count): (&Finding, usize)| match count {
        1 => format!("tensor `{tensor}` in {warning}"),
        _ => format!("{count} tensors in {}, such as `{tensor}`: {}", warning.format, warning.reason),
    };
    groups.into_iter().map(line).collect()
}

pub(crate) fn json(findings: &[Finding]) -> Value {
    let of = |Finding { tensor, warning }: &Finding| {
        let mut json = json!({
            "tensor": tensor, "format": warning.format.to_string(), "reason": warning.reason.name(),
            "message": warning.reason.to_string(),
        });
        let numbers = match warning.reason {
            Reason::MantissaBits { bits, .. } => json!({ "bits": bits }),
            Reason::RangeBelowMedian { largest, median, saturated } => {
                json!({ "largest": largest, "median": median, "saturated": saturated })
            }
            Reason::StepAboveMaximum { step, max, zeroed } => {
                json!({ "step": step, "max": max, "zeroed": zeroed })
            }
            Reason::Saturates { largest, saturated } => json!({ "largest": largest, "saturated": saturated }),
            Reason::Zeroes { step, zeroed } => json!({ "step": step, "zeroed": zeroed }),
        };
        if let (Value::Object(json), Value::Object(numbers)) = (&mut json, numbers) {
            json.extend(numbers);
        }
        json
    };
    findings.iter().map(of).collect()
}
