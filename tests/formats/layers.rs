//! Linear layers, against MASE.

use anybit::format::upstream::{Layer, Operands};
use serde_json::json;

use super::golden::Case;

pub(crate) fn layer(case: &Case<'_>) {
    let mut config = case.param("config").clone();
    if case.flag("floor", false) {
        // An argument of the constructor that ends up here.
        config["floor"] = json!(true);
    }
    let (x, weight, bias) = (case.input(), case.named("weight"), case.named("bias"));
    let (values, weights, biases) = (x.floats(), weight.floats(), bias.floats());
    let operands = Operands {
        x: &values,
        shape: &x.shape,
        weight: &weights,
        outputs: weight.shape[0],
        bias: Some(&biases),
    };
    let layer = Layer::from_config(case.format().trim_start_matches("layer."), &config).unwrap();
    let result = layer.forward(&operands);
    if case.raises() {
        return case.assert_refused(result);
    }
    let result = result.unwrap();
    case.assert_near("y", &result.y, &result.shape, 1e-5);
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    for (name, config, parts) in [
        ("LinearFoo", json!({}), &["LinearFoo", "known: LinearInteger"][..]),
        ("LinearInteger", json!({"data_in_width": 8}), &["LinearInteger", "`weight_width`"]),
        ("LinearInteger", json!({"data_in_width": 300}), &["`data_in_width` is 300", "in range"]),
        ("LinearLog", json!({"data_in_width": "8"}), &["`data_in_width` is \"8\""]),
        ("LinearBinary", json!({"weight_stochastic": true}), &["`weight_stochastic`", "random"]),
        ("LinearBinary", json!({"weight_stochastic": 1}), &["true or false"]),
        ("LinearMXInt", json!({"weight_block_size": 8}), &["`weight_width`"]),
    ] {
        let message = Layer::from_config(name, &config).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{name} {config}: {message}");
    }
    let pass = Layer::from_config("LinearLog", &json!({"bypass": true})).unwrap();
    let (x, weight, bias) = ([1.0, 2.0], [3.0, 5.0, 7.0, 11.0], [0.5, 0.25]);
    let operands = Operands { x: &x, shape: &[1, 2], weight: &weight, outputs: 2, bias: Some(&bias) };
    assert_eq!(pass.forward(&operands).unwrap().y, [13.5, 29.25]);
    for (operands, part) in [
        (Operands { outputs: 3, ..operands }, "weight [3, 2]"),
        (Operands { shape: &[2, 2], ..operands }, "shape [2, 2]"),
        (Operands { bias: Some(&x[..1]), ..operands }, "bias of 1"),
        (Operands { shape: &[], ..operands }, "without dimensions"),
        (Operands { x: &[], shape: &[1, 0], weight: &[], ..operands }, "check the shapes"),
    ] {
        let message = pass.forward(&operands).unwrap_err().to_string();
        assert!(message.contains(part), "{message}: wants {part}");
    }
}
