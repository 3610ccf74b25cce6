//! Stacks: the products whose results an attention reads, or that are the gate and up of an MLP, as one product.

use crate::graph::{Assignment, Function, Graph, Node, NodeId, Op, Role, WeightId};

/// Linear nodes of one input in one spec, whose matrices are resident as one: their results are neighbouring columns of one
/// value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    /// In order of columns; the first is computed for all.
    pub(super) nodes: Vec<NodeId>,
    /// Their matrices, in this order.
    pub(super) weights: Vec<WeightId>,
    /// Their biases; none has one, or all have.
    pub(super) biases: Vec<WeightId>,
    /// Of a gate and up: what joins them.
    pub(super) gate: Option<Gate>,
}

/// `product = function(gate) * up`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) function: Function,
    /// The node that is the function of the gate.
    pub(super) activated: NodeId,
    pub(super) product: NodeId,
}

/// The stacks of a graph under `assignment`: q, k and v of an attention, where nothing but rotations and the attention,
/// which read columns of any value, read them; and the gate and up of an MLP, where nothing but the MLP reads them.
pub(super) fn stacks(graph: &Graph, assignment: &Assignment) -> Vec<Stack> {
    let mut stacks = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        match (&node.op, &node.inputs[..]) {
            (Op::Attention { .. }, inputs) => {
                let sources: Option<Vec<NodeId>> = inputs.iter().map(|&input| source(graph, input)).collect();
                let columns = |other: &Node| matches!(other.op, Op::Rope { .. } | Op::Attention { .. });
                stacks.extend(sources.and_then(|nodes| stack(graph, assignment, nodes, columns)));
            }
            (Op::Mul, &[a, b]) => {
                let gated =
                    gated(graph, assignment, id, (a, b)).or_else(|| gated(graph, assignment, id, (b, a)));
                stacks.extend(gated);
            }
            _ => {}
        }
    }
    stacks
}

/// The linear node that `node` is, or rotates the result of.
fn source(graph: &Graph, node: NodeId) -> Option<NodeId> {
    match (&graph.nodes[node].op, &graph.nodes[node].inputs[..]) {
        (Op::Linear { .. }, _) => Some(node),
        (Op::Rope { .. }, &[input]) => matches!(graph.nodes[input].op, Op::Linear { .. }).then_some(input),
        _ => None,
    }
}

/// The gate and up whose product is node `product`, a function of the one and the other.
fn gated(
    graph: &Graph,
    assignment: &Assignment,
    product: NodeId,
    (activated, up): (NodeId, NodeId),
) -> Option<Stack> {
    let (&Op::Activate(function), &[gate]) = (&graph.nodes[activated].op, &graph.nodes[activated].inputs[..])
    else {
        return None;
    };
    let read_once =
        |node: NodeId| graph.nodes.iter().flat_map(|n| &n.inputs).filter(|&&i| i == node).count() == 1;
    let halves = graph.nodes[gate].width == graph.nodes[up].width;
    if gate >= up || !halves || ![gate, activated, up].into_iter().all(read_once) {
        return None;
    }
    let stack = stack(graph, assignment, vec![gate, up], |_| true)?;
    Some(Stack { gate: Some(Gate { function, activated, product }), ..stack })
}

/// `nodes` as a stack, where `reads_columns` is true of all that read them.
fn stack(
    graph: &Graph,
    assignment: &Assignment,
    mut nodes: Vec<NodeId>,
    reads_columns: impl Fn(&Node) -> bool,
) -> Option<Stack> {
    nodes.sort_unstable();
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for &node in &nodes {
        let Op::Linear { weight, bias } = graph.nodes[node].op else { return None };
        weights.push(weight);
        biases.extend(bias);
        let reads = |other: &&Node| matches!(other.op, Op::Linear { weight: w, .. } if w == weight);
        let readers = graph.nodes.iter().filter(reads).count();
        let mut consumers = graph.nodes.iter().filter(|other| other.inputs.contains(&node));
        // A matrix of several readers is resident by itself, and vec4 of columns must not straddle two results.
        if readers != 1
            || graph.weights[weight].role != Role::Linear
            || !graph.weights[weight].rows.is_multiple_of(4)
            || !consumers.all(&reads_columns)
        {
            return None;
        }
    }
    let &first = weights.first()?;
    let input = &graph.nodes[*nodes.first()?].inputs;
    let spec = assignment.specs[first];
    let alike = nodes.iter().all(|&node| graph.nodes[node].inputs == *input)
        && weights.iter().all(|&weight| assignment.specs[weight] == spec)
        && (biases.is_empty() || biases.len() == weights.len());
    let rows: Vec<usize> = weights.iter().map(|&weight| graph.weights[weight].rows).collect();
    let distinct = nodes.windows(2).all(|pair| pair[0] < pair[1]);
    let whole = alike && distinct && spec.weight.stacks(&rows, graph.weights[first].cols);
    whole.then_some(Stack { nodes, weights, biases, gate: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Spec;
    use crate::graph::Mask;

    /// An attention over `rows[i]` columns of q, k and v, heads of 4, with rotated keys where `rope`.
    fn graph(rows: [usize; 3], rope: bool) -> Graph {
        let mut graph = Graph::default();
        let table = graph.weight("e", 4, 32, Role::Embedding, false);
        let x = graph.push("x", Op::Embed { table }, &[], 32);
        let mut nodes = Vec::new();
        for (name, rows) in ["q", "k", "v"].into_iter().zip(rows) {
            let weight = graph.weight(name, rows, 32, Role::Linear, false);
            nodes.push(graph.push(name, Op::Linear { weight, bias: None }, &[x], rows));
        }
        if rope {
            let op = Op::Rope { heads: 1, head_dim: rows[1], inverse_frequency: vec![1.0; rows[1] / 2] };
            nodes[1] = graph.push("rope", op, &[nodes[1]], rows[1]);
        }
        let (heads, kv_heads) = (rows[0] / 4, rows[1] / 4);
        let op = Op::Attention { layer: 0, heads, kv_heads, head_dim: 4, scale: 1.0, mask: Mask::Causal };
        graph.push("y", op, &nodes, rows[0]);
        graph
    }

    fn found(graph: &Graph, specs: [&str; 3]) -> Vec<Vec<NodeId>> {
        let of = |spec: &str| spec.parse::<Spec>().expect("a spec");
        let mut assignment = Assignment { specs: vec![of("f32"); graph.weights.len()] };
        assignment.specs[1..].iter_mut().zip(specs).for_each(|(to, spec)| *to = of(spec));
        stacks(graph, &assignment).into_iter().map(|stack| stack.nodes).collect()
    }

    #[test]
    fn q_k_and_v_of_one_spec_are_a_stack() {
        for rope in [false, true] {
            let graph = graph([8, 4, 4], rope);
            assert_eq!(found(&graph, ["int4(group=32)"; 3]), [[1, 2, 3]], "rope {rope}");
            let mixed = ["int4(group=32)", "int4(group=32)", "int4(group=32)@int8"];
            assert!(found(&graph, mixed).is_empty());
        }
    }

    /// `function(gate) * up` of `rows` columns each, or `up * function(gate)`; the gate's matrix first unless `late`.
    fn mlp(rows: [usize; 2], up_first: bool, late: bool) -> Graph {
        let mut graph = Graph::default();
        let table = graph.weight("e", 4, 32, Role::Embedding, false);
        let x = graph.push("x", Op::Embed { table }, &[], 32);
        let mut linear = |name: &str, rows| {
            let weight = graph.weight(name, rows, 32, Role::Linear, false);
            graph.push(name, Op::Linear { weight, bias: None }, &[x], rows)
        };
        let (gate, up) = match late {
            true => {
                let up = linear("up", rows[1]);
                (linear("gate", rows[0]), up)
            }
            false => (linear("gate", rows[0]), linear("up", rows[1])),
        };
        let act = graph.push("act", Op::Activate(Function::Silu), &[gate], rows[0]);
        let inputs = if up_first { [up, act] } else { [act, up] };
        graph.push("y", Op::Mul, &inputs, rows[0]);
        graph
    }

    #[test]
    fn the_gate_and_up_of_one_spec_are_a_stack() {
        for up_first in [false, true] {
            let graph = mlp([8, 8], up_first, false);
            let assignment =
                Assignment { specs: vec!["int8(scale=row)".parse().expect("a spec"); graph.weights.len()] };
            let [stack] = &stacks(&graph, &assignment)[..] else { panic!("one stack, {up_first}") };
            let gate = Gate { function: Function::Silu, activated: 3, product: 4 };
            assert_eq!((&stack.nodes[..], stack.gate), (&[1, 2][..], Some(gate)));
            let steps = crate::engine::fusion::steps(&graph, true, std::slice::from_ref(stack));
            let made: Vec<_> = steps.iter().map(|step| (step.node, step.output, step.also.len())).collect();
            assert_eq!(made, [(0, 0, 0), (1, 4, 0)]);
            assert_eq!(
                steps[1].epilogue,
                crate::shader::Epilogue::Gated { bias: false, function: Function::Silu }
            );
        }
        let graph = mlp([8, 8], false, false);
        assert!(found(&graph, ["int8(scale=row)", "int4(scale=row)", "f32"]).is_empty());
        // One scale for the whole matrix: theirs are two.
        assert!(found(&graph, ["int8", "int8", "f32"]).is_empty());
    }

    #[test]
    fn a_gate_that_something_else_reads_or_that_comes_after_up_stays_by_itself() {
        let all = ["f32"; 3];
        let of = |graph: &Graph| {
            let specs = vec![all[0].parse::<Spec>().expect("a spec"); graph.weights.len()];
            stacks(graph, &Assignment { specs })
        };
        assert_eq!(of(&mlp([8, 8], false, false)).len(), 1);
        assert!(of(&mlp([8, 8], false, true)).is_empty());
        assert!(of(&mlp([6, 6], false, false)).is_empty(), "vec4 would straddle");
        for node in [1, 2, 3] {
            let mut shared = mlp([8, 8], false, false);
            shared.push("again", Op::Add, &[node, 4], 8);
            assert!(of(&shared).is_empty(), "node {node}");
        }
        let mut square = mlp([8, 8], false, false);
        square.nodes[4].inputs = vec![3, 3];
        assert!(of(&square).is_empty());
    }

    #[test]
    fn what_something_else_reads_stays_by_itself() {
        let mut shared = graph([8, 8, 8], false);
        shared.push("sum", Op::Add, &[1, 2], 8);
        assert!(found(&shared, ["f32"; 3]).is_empty());
        let mut tied = graph([8, 8, 8], false);
        tied.push("again", Op::Linear { weight: 2, bias: None }, &[0], 8);
        assert!(found(&tied, ["f32"; 3]).is_empty());
        let mut once = graph([8, 8, 8], false);
        let attention = once.nodes.len() - 1;
        once.nodes[attention].inputs = vec![1, 1, 1];
        assert!(found(&once, ["f32"; 3]).is_empty());
        assert!(found(&graph([8, 6, 6], false), ["f32"; 3]).is_empty());
    }
}
