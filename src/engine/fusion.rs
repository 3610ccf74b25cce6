//! Fusion: which nodes of a graph become one dispatch. Fused and naive plans are the same graph with and
//! without this pass.

use super::stack::Stack;
use super::values::{offset_of, whole_pairs};
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
    /// The second operand of an epilogue that has one.
    pub(super) residual: Option<NodeId>,
    /// Queries and keys before their rotation, where attention rotates them.
    pub(super) rotated: Option<[NodeId; 2]>,
    /// For the first linear of a stack: the others, whose values are further columns of its own.
    pub(super) also: Vec<NodeId>,
}

impl Step {
    /// The nodes whose values it reads.
    pub(super) fn reads<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = NodeId> + 'a {
        let own = graph.nodes[self.node].inputs.iter().chain(&self.residual);
        own.chain(self.rotated.iter().flatten()).copied()
    }
}

/// The steps of `graph`; without `fused` one per node, and linears end in a plain store. `stacks` are computed at their
/// first node.
pub(super) fn steps(graph: &Graph, fused: bool, stacks: &[Stack]) -> Vec<Step> {
    let mut consumers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        for &input in &node.inputs {
            consumers[input].push(id);
        }
    }
    let mut absorbed = vec![false; graph.nodes.len()];
    let mut rotations = vec![None; graph.nodes.len()];
    if fused {
        for (id, node) in graph.nodes.iter().enumerate() {
            rotations[id] = rotated(graph, &consumers, id);
            if let (Some(_), &[q, k, _]) = (rotations[id], &node.inputs[..]) {
                (absorbed[q], absorbed[k]) = (true, true);
            }
        }
    }
    // Nodes whose values the steps so far produce.
    let mut computed = vec![false; graph.nodes.len()];
    let mut steps = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        if absorbed[id] {
            continue;
        }
        let mut step = Step {
            node: id,
            output: id,
            epilogue: Epilogue::Store,
            residual: None,
            rotated: rotations[id],
            also: Vec::new(),
        };
        let stack = stacks.iter().find(|stack| stack.nodes.first() == Some(&id));
        if let (Op::Linear { bias, .. }, Some((stack, gate))) =
            (&node.op, stack.and_then(|s| Some((s, s.gate?))))
        {
            step.epilogue = Epilogue::Gated { bias: bias.is_some(), function: gate.function };
            step.output = gate.product;
            for &other in stack.nodes[1..].iter().chain([&gate.activated, &gate.product]) {
                absorbed[other] = true;
            }
        } else if let (Op::Linear { bias, .. }, true) = (&node.op, fused) {
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
            if let Some(stack) = stack {
                step.also = stack.nodes[1..].to_vec();
                for &other in &step.also {
                    (absorbed[other], computed[other]) = (true, true);
                }
            }
        }
        computed[step.output] = true;
        steps.push(step);
    }
    steps
}

/// What the queries and keys of attention `node` are rotated from, where nothing else reads either, the angles are the
/// same, and rows are whole pairs of vec4.
fn rotated(graph: &Graph, consumers: &[Vec<NodeId>], node: NodeId) -> Option<[NodeId; 2]> {
    let (Op::Attention { head_dim, .. }, &[q, k, v]) = (&graph.nodes[node].op, &graph.nodes[node].inputs[..])
    else {
        return None;
    };
    let source = |rope: NodeId| match (&graph.nodes[rope].op, &graph.nodes[rope].inputs[..]) {
        (Op::Rope { inverse_frequency, .. }, &[source]) if consumers[rope] == [node] => {
            Some((source, inverse_frequency))
        }
        _ => None,
    };
    let ((of_q, q_angles), (of_k, k_angles)) = (source(q)?, source(k)?);
    // The values go to their cache in the same kernel.
    let wide = [head_dim / 2, offset_of(graph, of_q), offset_of(graph, of_k), offset_of(graph, v)];
    (q_angles == k_angles && whole_pairs(&wide)).then_some([of_q, of_k])
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
        let fused = steps(&graph, true, &[]);
        let outputs: Vec<_> = fused.iter().map(|s| (s.node, s.output, s.residual)).collect();
        assert_eq!(outputs, [(x, x, None), (gate, act, None), (up, product, Some(act))]);
    }

    #[test]
    fn attention_rotates_queries_and_keys_unless_something_else_reads_them() {
        // Keys of other angles, and values that begin within a pair of vec4, last.
        let cases = [
            (16, false, 8, 1.0),
            (16, true, 8, 1.0),
            (24, false, 8, 1.0),
            (16, false, 8, 0.5),
            (16, false, 4, 1.0),
        ];
        for (heads_of, shared, offset, angle) in cases {
            let mut graph = Graph::default();
            let table = graph.weight("e", 4, heads_of, Role::Embedding, false);
            let x = graph.push("x", Op::Embed { table }, &[], heads_of);
            let v = graph.push("v", Op::Slice { offset }, &[x], heads_of);
            let rope = |angle: f32| Op::Rope {
                heads: 1,
                head_dim: heads_of,
                inverse_frequency: vec![angle; heads_of / 2],
            };
            let attention = Op::Attention {
                layer: 0,
                heads: 1,
                kv_heads: 1,
                head_dim: heads_of,
                scale: 1.0,
                mask: crate::graph::Mask::Causal,
            };
            let q = graph.push("q", rope(1.0), &[x], heads_of);
            let k = graph.push("k", rope(angle), &[x], heads_of);
            let y = graph.push("y", attention, &[q, k, v], heads_of);
            if shared {
                graph.push("sum", Op::Add, &[k, y], heads_of);
            }
            let fused = steps(&graph, true, &[]);
            let absorbed = heads_of == 16 && !shared && offset == 8 && angle == 1.0;
            let named = format!("{heads_of} {shared} {offset} {angle}");
            for rope in [q, k] {
                assert_eq!(fused.iter().any(|step| step.node == rope), !absorbed, "{named}");
                assert!(steps(&graph, false, &[]).iter().any(|step| step.node == rope));
            }
            let attends = fused.iter().find(|step| step.node == y).expect("it is a step");
            assert_eq!(attends.rotated, absorbed.then_some([x, x]), "{named}");
        }
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
        let fused = steps(&graph, true, &[]);
        let outputs: Vec<_> = fused.iter().map(|s| (s.node, s.output)).collect();
        let rest = [(gate, gated), (half, half), (sliced, sliced), (other, other)];
        assert_eq!(outputs[..5], [(x, x), (up, act), (down, sum), (twice, twice), (square, square)]);
        assert_eq!(outputs[5..], rest);
        assert_eq!((fused[5].epilogue, fused[5].residual), (Epilogue::Product { bias: false }, Some(square)));
        assert_eq!(fused[1].epilogue, Epilogue::Activation { bias: true, function: Function::Relu });
        assert_eq!(fused[2].residual, Some(x));
        assert_eq!(fused[3].epilogue, Epilogue::Store);
        assert_eq!(steps(&graph, false, &[]).len(), graph.nodes.len());
    }
}
