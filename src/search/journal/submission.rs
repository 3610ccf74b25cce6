//! What callers hand in: trials to begin and trials that ended.

use super::distribution::categorical;
use super::replay::Attrs;
use crate::error::{Error, Result, invalid};
use crate::search::Point;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// A categorical parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// What it can be.
    pub choices: Vec<String>,
}

/// A trial to begin.
#[derive(Clone, Debug, Default)]
pub struct NewTrial {
    /// The index of a choice for each axis.
    pub point: Point,
    /// Attributes for people.
    pub user_attrs: Attrs,
    /// Attributes for programs; the worker is added.
    pub system_attrs: Attrs,
}

/// A trial that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its number in the study.
    pub number: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// Attributes to set before it is closed.
    pub user_attrs: Attrs,
    /// Attributes to set before it is closed.
    pub system_attrs: Attrs,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With one value for each objective. If one of them is not finite, the trial is recorded as failed, because
    /// JSON has no such numbers.
    Complete(Vec<f64>),
    /// Without values.
    Failed,
}

/// Refuses points that do not fit the axes.
pub(super) fn check_points(axes: &[Axis], trials: &[NewTrial]) -> Result<()> {
    let mut names = HashSet::new();
    if let Some(axis) = axes.iter().find(|axis| !names.insert(&axis.name)) {
        invalid!("two axes are named `{}`; names must differ", axis.name);
    }
    for trial in trials {
        if trial.point.len() != axes.len() {
            invalid!("a point has {} choices, want {}, one for each axis", trial.point.len(), axes.len());
        }
        for (axis, &choice) in axes.iter().zip(&trial.point) {
            if choice >= axis.choices.len() {
                let count = axis.choices.len();
                invalid!("choice {choice} of axis `{}` does not exist, it has {count}, from 0", axis.name);
            }
        }
    }
    Ok(())
}

/// The `distributions` of a record, once for all trials: most of the bytes of a journal are these.
pub(super) fn distributions(axes: &[Axis]) -> Result<Box<RawValue>> {
    let texts = axes.iter().map(|axis| (axis.name.clone(), categorical(&axis.choices).into()));
    let object: Map<String, Value> = texts.collect();
    to_raw_value(&object).map_err(|error| Error::invalid(format!("cannot write the axes: {error}")))
}
