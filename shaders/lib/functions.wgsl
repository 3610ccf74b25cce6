// Elementwise functions; FUNCTION is 0 relu, 1 silu, 2 gelu (error function), 3 gelu (tanh form), 4 tanh.

// Abramowitz & Stegun 1964, 7.1.26: absolute error at most 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - p * exp(-x * x));
}

// Devices may form tanh from exponentials that overflow or cancel: the odd series near 0, the quotient elsewhere.
fn hyperbolic_tangent(x: f32) -> f32 {
    let square = x * x;
    if square < 0.0625 {
        return x * (1.0 + square * (-0.33333333 + square * (0.13333333 + square * (-0.053968254 + square * 0.021869488))));
    }
    let t = exp(-2.0 * abs(x));
    return sign(x) * (1.0 - t) / (1.0 + t);
}

fn activation(x: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return max(x, 0.0); }
        case 1u: { return x / (1.0 + exp(-x)); }
        case 2u: { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
        case 4u: { return hyperbolic_tangent(x); }
        default: {
            // tanh overflows to NaN on some drivers for large arguments; it is 1 long before 10.
            let u = clamp(0.79788456 * (x + 0.044715 * x * x * x), -10.0, 10.0);
            return 0.5 * x * (1.0 + tanh(u));
        }
    }
}
