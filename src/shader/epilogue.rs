//! What ends a sum.

use super::catalog::{Binding, read};

/// What happens to one accumulator before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// `y = acc`
    Store,
    /// `y = acc + bias`
    Bias,
    /// `y = f(acc + bias)`
    Activation {
        /// Adds the bias first.
        bias: bool,
        /// The function f.
        function: crate::graph::Function,
    },
    /// `y = residual + acc + bias`
    Residual {
        /// Adds the bias.
        bias: bool,
    },
    /// `y = residual * (acc + bias)`
    Product {
        /// Adds the bias first.
        bias: bool,
    },
    /// `y = f(gate + bias) * (up + bias)`, of a matrix that has the rows of the gate and then as many of up; GEMV only.
    Gated {
        /// Adds the biases first.
        bias: bool,
        /// The function f.
        function: crate::graph::Function,
    },
    /// Whichever of the others but [`Epilogue::Gated`] the parameter `ending` names ([`Epilogue::ending`]); GEMV and direct
    /// products only.
    Any {
        /// Adds the bias first.
        bias: bool,
        /// The function of an activation.
        function: crate::graph::Function,
    },
    /// The i32 accumulator as bits (integer kernels with one scale per row only).
    Accumulator,
}

impl Epilogue {
    /// WGSL text.
    pub fn source(self) -> &'static str {
        match self {
            Epilogue::Store | Epilogue::Bias => include_str!("../../shaders/epilogue/store.wgsl"),
            Epilogue::Activation { .. } => include_str!("../../shaders/epilogue/activation.wgsl"),
            Epilogue::Residual { .. } => include_str!("../../shaders/epilogue/residual.wgsl"),
            Epilogue::Product { .. } => include_str!("../../shaders/epilogue/product.wgsl"),
            Epilogue::Gated { .. } => include_str!("../../shaders/epilogue/gated.wgsl"),
            Epilogue::Any { .. } => include_str!("../../shaders/epilogue/any.wgsl"),
            Epilogue::Accumulator => include_str!("../../shaders/epilogue/accumulator.wgsl"),
        }
    }

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Epilogue::Store => "store",
            Epilogue::Bias => "bias",
            Epilogue::Activation { .. } => "activation",
            Epilogue::Residual { .. } => "residual",
            Epilogue::Product { .. } => "product",
            Epilogue::Gated { .. } => "gated",
            Epilogue::Any { .. } => "any",
            Epilogue::Accumulator => "accumulator",
        }
    }

    /// The parameter with which [`Epilogue::Any`] of `function` ends a sum as this does, where it can.
    pub fn ending(self, function: crate::graph::Function) -> Option<u32> {
        match self {
            Epilogue::Store | Epilogue::Bias => Some(0),
            Epilogue::Activation { function: own, .. } => (own == function).then_some(1),
            Epilogue::Residual { .. } => Some(2),
            Epilogue::Product { .. } => Some(3),
            Epilogue::Gated { .. } | Epilogue::Any { .. } | Epilogue::Accumulator => None,
        }
    }

    /// The function it applies or may apply.
    pub fn function(self) -> Option<crate::graph::Function> {
        match self {
            Epilogue::Activation { function, .. }
            | Epilogue::Gated { function, .. }
            | Epilogue::Any { function, .. } => Some(function),
            _ => None,
        }
    }

    /// Whether it adds the bias vector.
    pub fn has_bias(self) -> bool {
        match self {
            Epilogue::Bias => true,
            Epilogue::Activation { bias, .. }
            | Epilogue::Residual { bias }
            | Epilogue::Product { bias }
            | Epilogue::Gated { bias, .. }
            | Epilogue::Any { bias, .. } => bias,
            Epilogue::Store | Epilogue::Accumulator => false,
        }
    }

    /// Whether it reads, or may read, a second operand of the shape of y.
    pub fn has_residual(self) -> bool {
        matches!(self, Epilogue::Residual { .. } | Epilogue::Product { .. } | Epilogue::Any { .. })
    }

    /// Storage buffers it reads.
    pub fn bindings(self) -> Vec<Binding> {
        let mut bindings = Vec::new();
        if self.has_bias() {
            bindings.push(read("bias", "array<f32>"));
        }
        if self.has_residual() {
            bindings.push(read("residual", "array<f32>"));
        }
        bindings
    }
}
