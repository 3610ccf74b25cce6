//! Formats that a program defines outside this crate: a table of values, and what shares a scale.

use std::sync::{Arc, RwLock};

use super::{Format, Scope};
use crate::error::{Error, Result, invalid};

/// A codebook format: up to 256 values; a weight is the nearest value times `s = f16(max|w| / max|value|)` of its
/// scope.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomFormat {
    /// Name in specs: letters, digits and `_`, beginning with a letter.
    pub name: String,
    /// 2 to 256 finite values, by code. At a tie the smaller value wins.
    pub values: Vec<f32>,
    /// What shares a scale; always an f16.
    pub scope: Scope,
}

/// A registered [`CustomFormat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CustomId(u32);

static REGISTRY: RwLock<Vec<Arc<CustomFormat>>> = RwLock::new(Vec::new());

impl CustomFormat {
    /// Makes the format known to this process under its name: as text in every spec, for files, for the device.
    ///
    /// # Errors
    /// When the name is taken or malformed, or the values are not 2 to 256 finite numbers, one of them not 0.
    pub fn register(self) -> Result<Format> {
        let is_word = self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_word || !self.name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            invalid!("format name `{}`: want letters, digits and _, beginning with a letter", self.name);
        }
        if self.values.len() < 2 || self.values.len() > 256 {
            invalid!("format {}: got {} values, want 2 to 256", self.name, self.values.len());
        }
        if self.values.iter().any(|value| !value.is_finite()) || self.values.iter().all(|&value| value == 0.0)
        {
            invalid!("format {}: want finite values, not all of them 0", self.name);
        }
        let normal = |value: &f32| *value == 0.0 || (1e-6..=1e6).contains(&value.abs());
        if let Some(value) = self.values.iter().find(|value| !normal(value)) {
            invalid!("format {}: value {value}: want 0 or a magnitude from 1e-6 to 1e6", self.name);
        }
        if let Scope::Group(group) = self.scope
            && (!group.is_multiple_of(32) || !(32..=65536).contains(&group))
        {
            invalid!("format {}: group = {group}: want a multiple of 32 between 32 and 65536", self.name);
        }
        if super::names::is_reserved(&self.name) {
            invalid!("format name `{}` is taken; choose another one", self.name);
        }
        let mut registry =
            REGISTRY.write().map_err(|_| Error::invalid("the registry of formats is poisoned"))?;
        if registry.iter().any(|known| known.name == self.name) {
            invalid!("format name `{}` is taken; choose another one", self.name);
        }
        registry.push(Arc::new(self));
        Ok(Format::Custom(CustomId(registry.len() as u32 - 1)))
    }

    /// Bits per code.
    pub(super) fn bits(&self) -> u8 {
        (self.values.len() as u32).next_power_of_two().trailing_zeros() as u8
    }

    /// The values, filled up to a power of two with the last one.
    pub(super) fn table(&self) -> Vec<f32> {
        let mut table = self.values.clone();
        table.resize(1 << self.bits(), table.last().copied().unwrap_or(0.0));
        table
    }
}

/// The format behind an id. Ids come from [`CustomFormat::register`] only, and nothing is ever removed.
pub(super) fn get(id: CustomId) -> Arc<CustomFormat> {
    let registry = REGISTRY.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    registry[id.0 as usize].clone()
}

/// The registered format called `name`.
pub(super) fn find(name: &str) -> Option<Format> {
    let registry = REGISTRY.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let index = registry.iter().position(|format| format.name == name)?;
    Some(Format::Custom(CustomId(index as u32)))
}

/// Names of all registered formats.
pub(super) fn names() -> Vec<String> {
    let registry = REGISTRY.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    registry.iter().map(|format| format.name.clone()).collect()
}
