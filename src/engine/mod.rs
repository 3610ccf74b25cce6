//! The GPU executor: resident weights, fusion, plans, sessions.
//!
//! A [`Session`] runs one graph under one assignment. Its weights come from [`Resident`], where every
//! (tensor, format) is uploaded once and shared by all sessions; a plan per batch shape turns the graph into
//! dispatches.

mod activation;
mod attention;
mod dequantize;
mod fusion;
mod history;
mod loss;
mod matmul;
mod plan;
mod resident;
mod rounding;
mod session;
mod stack;
mod state;
mod timing;
mod trial;
mod values;

pub use dequantize::Dequantizer;
pub use loss::{LossReport, Losses};
pub use matmul::MatMul;
pub use resident::{DeviceMatrix, Part, Resident};
pub use rounding::Rounding;
pub use session::{Session, SessionOptions};
pub use timing::PassTime;
pub use trial::{Prediction, Tally, TrialCounters, TrialOptions, Trials};
