//! What the records of a journal add up to. Which are accepted and which passed over is as in Optuna, so that all
//! programs that read one file agree on what is in it.

use super::distribution::{Distribution, Interner, Param};
use super::record::{Checked, Float, Record, op, unknown, with_record};
use crate::search::TrialState;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Attributes of a study or trial. NaN and infinities that Python wrote are the strings `NaN`, `Infinity`,
/// `-Infinity`.
pub type Attrs = Map<String, Value>;

/// Which way an objective goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Not said.
    NotSet = 0,
    /// Less is better.
    Minimize = 1,
    /// More is better.
    Maximize = 2,
}

/// A study as its records left it.
#[derive(Debug)]
pub struct Study {
    /// Its name, unique in the file.
    pub name: String,
    /// One for each objective.
    pub directions: Vec<Direction>,
    /// Attributes that users set.
    pub user_attrs: Attrs,
    /// Attributes that programs set.
    pub system_attrs: Attrs,
    /// Its trials; their position is their number.
    pub trials: Vec<TrialRecord>,
    /// Its number stays taken, its name does not.
    pub(super) deleted: bool,
    /// Of each parameter the first trial that has it, by number, and its distribution there: later ones must be
    /// compatible with that.
    first: HashMap<Arc<str>, (usize, Arc<Distribution>)>,
}

/// A trial as its records left it.
#[derive(Debug)]
pub struct TrialRecord {
    /// Position among all trials of the file, as records name it.
    pub(super) id: i64,
    /// Position in the study, from 0.
    pub number: usize,
    /// Where it stands.
    pub state: TrialState,
    /// Its parameters in the order they were set.
    pub params: Vec<Param>,
    /// Objective values; `None` unless it has some.
    pub values: Option<Vec<f64>>,
    /// Values reported on the way, by step, in the order they were first reported.
    pub intermediate_values: Vec<(i64, f64)>,
    /// Attributes that users set.
    pub user_attrs: Attrs,
    /// Attributes that programs set.
    pub system_attrs: Attrs,
    /// When it began; `None` where it did not, or the time cannot be read.
    pub datetime_start: Option<SystemTime>,
    /// When it ended.
    pub datetime_complete: Option<SystemTime>,
}

impl TrialRecord {
    /// Whether it can no longer change.
    pub fn is_finished(&self) -> bool {
        !matches!(self.state, TrialState::Running | TrialState::Waiting)
    }

    /// The parameter with this name.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| &*param.name == name)
    }
}

/// Everything in a journal so far.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// By number, deleted ones included.
    pub(super) studies: Vec<Study>,
    /// Study and number of every trial of the file.
    trials: Vec<(usize, usize)>,
    interner: Interner,
}

impl Replay {
    /// The number of the study with this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.studies.iter().position(|study| !study.deleted && study.name == name)
    }

    /// Names of the studies there are.
    pub(super) fn names(&self) -> Vec<&str> {
        self.studies.iter().filter(|study| !study.deleted).map(|study| study.name.as_str()).collect()
    }

    /// Takes in one line.
    ///
    /// # Errors
    /// What is wrong with it; nothing of it is taken in then.
    pub(super) fn apply(&mut self, line: &[u8]) -> Checked {
        with_record(line, |record| match record.op_code {
            op::CREATE_STUDY => self.create_study(record),
            op::DELETE_STUDY => {
                if let Some(study) = self.study(record.study_id)? {
                    study.deleted = true;
                }
                Ok(())
            }
            op::SET_STUDY_USER_ATTR => {
                let attrs = need(record.user_attr, "user_attr")?;
                if let Some(study) = self.study(record.study_id)? {
                    study.user_attrs.extend(attrs);
                }
                Ok(())
            }
            op::SET_STUDY_SYSTEM_ATTR => {
                let attrs = need(record.system_attr, "system_attr")?;
                if let Some(study) = self.study(record.study_id)? {
                    study.system_attrs.extend(attrs);
                }
                Ok(())
            }
            op::CREATE_TRIAL => self.create_trial(record),
            op::SET_TRIAL_PARAM => self.set_param(record),
            op::SET_TRIAL_STATE_VALUES => self.set_state(record),
            op::SET_TRIAL_INTERMEDIATE_VALUE => {
                let step = need(record.step, "step")?;
                let Float(value) = need(record.intermediate_value, "intermediate_value")?;
                if let Some(trial) = self.open_trial(record.trial_id)? {
                    match trial.intermediate_values.iter_mut().find(|(known, _)| *known == step) {
                        Some(entry) => entry.1 = value,
                        None => trial.intermediate_values.push((step, value)),
                    }
                }
                Ok(())
            }
            op::SET_TRIAL_USER_ATTR => {
                let attrs = need(record.user_attr, "user_attr")?;
                if let Some(trial) = self.open_trial(record.trial_id)? {
                    trial.user_attrs.extend(attrs);
                }
                Ok(())
            }
            op::SET_TRIAL_SYSTEM_ATTR => {
                let attrs = need(record.system_attr, "system_attr")?;
                if let Some(trial) = self.open_trial(record.trial_id)? {
                    trial.system_attrs.extend(attrs);
                }
                Ok(())
            }
            op::DISCARD_TRIALS => Ok(()),
            other => Err(unknown(other)),
        })
    }

    /// The study that a record is about, if there is one.
    fn study(&mut self, id: Option<i64>) -> Result<Option<&mut Study>, String> {
        let id = need(id, "study_id")?;
        let study = usize::try_from(id).ok().and_then(|id| self.studies.get_mut(id));
        Ok(study.filter(|study| !study.deleted))
    }

    /// Study and number of the trial that a record is about, if it exists and may still change.
    fn locate(&self, id: Option<i64>) -> Result<Option<(usize, usize)>, String> {
        let id = need(id, "trial_id")?;
        let place = usize::try_from(id).ok().and_then(|id| self.trials.get(id)).copied();
        Ok(place.filter(|&(study, number)| !self.studies[study].trials[number].is_finished()))
    }

    fn open_trial(&mut self, id: Option<i64>) -> Result<Option<&mut TrialRecord>, String> {
        let place = self.locate(id)?;
        Ok(place.map(|(study, number)| &mut self.studies[study].trials[number]))
    }

    fn create_study(&mut self, record: Record<'_>) -> Checked {
        let directions = need(record.directions, "directions")?;
        let directions: Result<_, _> = directions.into_iter().map(direction).collect();
        let (directions, name) = (directions?, need(record.study_name, "study_name")?);
        if self.find(&name).is_none() {
            self.studies.push(Study {
                name,
                directions,
                user_attrs: Attrs::new(),
                system_attrs: Attrs::new(),
                trials: Vec::new(),
                deleted: false,
                first: HashMap::new(),
            });
        }
        Ok(())
    }

    fn create_trial(&mut self, record: Record<'_>) -> Checked {
        if self.study(record.study_id)?.is_none() {
            return Ok(());
        }
        let state = record.state.map_or(Ok(TrialState::Running), state)?;
        let distributions = record.distributions.map(|pairs| pairs.0).unwrap_or_default();
        let mut params = Vec::with_capacity(distributions.len());
        for (i, (name, Float(internal))) in record.params.into_iter().flat_map(|pairs| pairs.0).enumerate() {
            // The two lists are of the same order in all files we know.
            let beside = distributions.get(i).filter(|(other, _)| *other == name);
            let found = beside.or_else(|| distributions.iter().find(|(other, _)| *other == name));
            let Some((_, raw)) = found else { return Err(format!("parameter `{name}` has no distribution")) };
            let distribution = self.interner.distribution(raw);
            params.push(Param { name: self.interner.name(&name), internal, distribution });
        }
        let intermediate = record.intermediate_values.into_iter().flat_map(|pairs| pairs.0);
        let intermediate: Result<_, _> = intermediate
            .map(|(step, Float(value))| match step.parse::<i64>() {
                Ok(step) => Ok((step, value)),
                Err(_) => Err(format!("step `{step}` of an intermediate value is not a whole number")),
            })
            .collect();
        let values = record.values.map(|values| values.into_iter().map(|Float(value)| value).collect());
        let intermediate_values = intermediate?;

        let study_id = record.study_id.unwrap_or_default() as usize; // which exists, see above
        let study = &mut self.studies[study_id];
        let number = study.trials.len();
        for param in &params {
            let first = || (number, param.distribution.clone());
            study.first.entry(param.name.clone()).or_insert_with(first);
        }
        study.trials.push(TrialRecord {
            id: self.trials.len() as i64,
            number,
            state,
            params,
            values: values.or_else(|| record.value.map(|Float(value)| vec![value])),
            intermediate_values,
            user_attrs: record.user_attrs.unwrap_or_default(),
            system_attrs: record.system_attrs.unwrap_or_default(),
            datetime_start: record.datetime_start.as_deref().and_then(time),
            datetime_complete: record.datetime_complete.as_deref().and_then(time),
        });
        self.trials.push((study_id, number));
        Ok(())
    }

    fn set_param(&mut self, record: Record<'_>) -> Checked {
        let Float(internal) = need(record.param_value_internal, "param_value_internal")?;
        let name = need(record.param_name, "param_name")?;
        let raw = need(record.distribution, "distribution")?;
        let Some((study, number)) = self.locate(record.trial_id)? else { return Ok(()) };
        let (name, distribution) = (self.interner.name(&name), self.interner.distribution(raw));
        let study = &mut self.studies[study];
        let known = study.first.get(&name);
        if known.is_some_and(|(_, known)| !known.is_compatible(&distribution)) {
            return Ok(());
        }
        if known.is_none_or(|&(first, _)| number <= first) {
            study.first.insert(name.clone(), (number, distribution.clone()));
        }
        let trial = &mut study.trials[number];
        let param = Param { name, internal, distribution };
        match trial.params.iter_mut().find(|known| known.name == param.name) {
            Some(known) => *known = param,
            None => trial.params.push(param),
        }
        Ok(())
    }

    fn set_state(&mut self, record: Record<'_>) -> Checked {
        let state = state(need(record.state, "state")?)?;
        let Some(trial) = self.open_trial(record.trial_id)? else { return Ok(()) };
        if state == TrialState::Running && trial.state == TrialState::Running {
            return Ok(()); // a queued trial that another process was faster to begin
        }
        trial.state = state;
        if state == TrialState::Running {
            trial.datetime_start = record.datetime_start.as_deref().and_then(time);
        }
        if trial.is_finished() {
            trial.datetime_complete = record.datetime_complete.as_deref().and_then(time);
        }
        if let Some(values) = record.values {
            trial.values = Some(values.into_iter().map(|Float(value)| value).collect());
        }
        Ok(())
    }
}

fn need<T>(field: Option<T>, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("it has no `{name}`, which its operation needs"))
}

fn direction(number: i64) -> Result<Direction, String> {
    Ok(match number {
        0 => Direction::NotSet,
        1 => Direction::Minimize,
        2 => Direction::Maximize,
        _ => return Err(format!("direction {number} is unknown, want 0 to 2")),
    })
}

fn state(number: i64) -> Result<TrialState, String> {
    Ok(match number {
        0 => TrialState::Running,
        1 => TrialState::Complete,
        2 => TrialState::Pruned,
        3 => TrialState::Failed,
        4 => TrialState::Waiting,
        _ => return Err(format!("state {number} is unknown, want 0 to 4")),
    })
}

/// A time with its offset. One that cannot be read is no reason to lose a trial.
fn time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}
