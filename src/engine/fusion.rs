//! Fusion: which nodes of a graph become one dispatch. Fused and naive plans are the same graph with and
//! without this pass.

use crate::graph::{Graph, NodeId, Op};
use crate::shader::Epilogue;

/// One step of a plan; `output` is the node whose value it produces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// The node that is computed.
    pub(super) node: NodeId,
    /// The node whose value results: `node`, or a later one that was fused into it.
    pub(super) output: NodeId,
    /// For linears: how the sums end.
    pub(super) epilogue: Epilogue,
    /// Second operand of an epilogue that has one.
    pub(super) residual: Option<NodeId>,
}

/// The steps of `graph`; without `fused` one per node, and linears end in a plain store.
pub(super) fn steps(graph: &Graph, fused: bool) -> Vec<Step> {
    let mut consumers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        for &input in &node.inputs {
            consumers[input].push(id);
        }
    }
    let mut absorbed = vec![false; graph.nodes.len()];
    // Nodes whose values the steps so far produce.
    let mut computed = vec![false; graph.nodes.len()];
    let mut steps = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        if absorbed[id] {
            continue;
        }
        let mut step = Step { node: id, output: id, epilogue: Epilogue::Store, residual: None };
        if let (Op::Linear { bias, .. }, true) = (&node.op, fused) {
            let bias = bias.is_some();
            if bias {
                step.epilogue = Epilogue::Bias;
            }
            if let [only] = consumers[id][..] {
                match graph.nodes[only].op {
                    Op::Activate(function) => {
                        step.epilogue = Epilogue::Activation { bias, function };
                        step.output = only;
                    }
                    Op::Add | Op::Mul => {
                        // The other operand must exist, in a buffer of its own, when the linear runs.
                        let other = graph.nodes[only].inputs.iter().copied().find(|&i| i != id);
                        let whole = |&other: &NodeId| {
                            computed[other] && !matches!(graph.nodes[other].op, Op::Slice { .. })
                        };
                        if let Some(other) = other.filter(whole) {
                            step.epilogue = match graph.nodes[only].op {
                                Op::Mul => Epilogue::Product { bias },
                                _ => Epilogue::Residual { bias },
                            };
                            step.residual = Some(other);
                            step.output = only;
                        }
                    }
                    _ => {}
                }
            }
            if step.output != id {
                absorbed[step.output] = true;
            }
        }
        computed[step.output] = true;
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Function, Role};

    #[test]
    fn the_gate_of_an_mlp_is_absorbed_though_its_function_stands_after_up() {
        let mut graph = Graph::default();
        let table = graph.weight("e", 4, 8, Role::Embedding, false);
        let w = graph.weight("w", 8, 8, Role::Linear, false);
        let x = graph.push("x", Op::Embed { table }, &[], 8);
        let gate = graph.push("gate", Op::Linear { weight: w, bias: None }, &[x], 8);
        let up = graph.push("up", Op::Linear { weight: w, bias: None }, &[x], 8);
        let act = graph.push("act", Op::Activate(Function::Silu), &[gate], 8);
        let product = graph.push("product", Op::Mul, &[act, up], 8);
        let fused = steps(&graph, true);
        let outputs: Vec<_> = fused.iter().map(|s| (s.node, s.output, s.residual)).collect();
        assert_eq!(outputs, [(x, x, None), (gate, act, None), (up, product, Some(act))]);
    }

    #[test]
    fn residual_and_activation_are_absorbed_and_shared_values_are_not() {
        let mut graph = Graph::default();
        let table = graph.weight("e", 4, 8, Role::Embedding, false);
        let w = graph.weight("w", 8, 8, Role::Linear, false);
        let b = graph.weight("b", 1, 8, Role::Vector, false);
        let x = graph.push("x", Op::Embed { table }, &[], 8);
        let up = graph.push("up", Op::Linear { weight: w, bias: Some(b) }, &[x], 8);
        let act = graph.push("act", Op::Activate(Function::Relu), &[up], 8);
        let down = graph.push("down", Op::Linear { weight: w, bias: None }, &[act], 8);
        let sum = graph.push("sum", Op::Add, &[x, down], 8);
        let twice = graph.push("twice", Op::Linear { weight: w, bias: None }, &[sum], 8);
        let square = graph.push("square", Op::Mul, &[twice, twice], 8);
        let gate = graph.push("gate", Op::Linear { weight: w, bias: None }, &[square], 8);
        let half = graph.push("half", Op::Slice { offset: 0 }, &[square], 8);
        let sliced = graph.push("sliced", Op::Linear { weight: w, bias: None }, &[square], 8);
        let gated = graph.push("gated", Op::Mul, &[square, gate], 8);
        let other = graph.push("other", Op::Mul, &[half, sliced], 8);
        let fused = steps(&graph, true);
        let outputs: Vec<_> = fused.iter().map(|s| (s.node, s.output)).collect();
        let rest = [(gate, gated), (half, half), (sliced, sliced), (other, other)];
        assert_eq!(outputs[..5], [(x, x), (up, act), (down, sum), (twice, twice), (square, square)]);
        assert_eq!(outputs[5..], rest);
        assert_eq!((fused[5].epilogue, fused[5].residual), (Epilogue::Product { bias: false }, Some(square)));
        assert_eq!(fused[1].epilogue, Epilogue::Activation { bias: true, function: Function::Relu });
        assert_eq!(fused[2].residual, Some(x));
        assert_eq!(fused[3].epilogue, Epilogue::Store);
        assert_eq!(steps(&graph, false).len(), graph.nodes.len());
    }
}
