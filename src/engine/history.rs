//! What the values of a graph were made of in earlier trials: which of them are still there, which are kept aside, and
//! so which steps a trial has to run.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::fusion::Step;
use super::state::State;
use super::trial::weight_of;
use crate::error::Result;
use crate::format::Spec;
use crate::gpu::{Buffer, Gpu};
use crate::graph::{Assignment, Graph, NodeId, Op};

/// What a value was made of: its step, the formats of that step, and the contents of its inputs. Equal contents are equal
/// bits, since a step is deterministic; 128 bits of hash make a chance collision of even 10^12 values a matter of 10^-15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content(u64, u64);

impl Content {
    fn of(what: &impl Hash) -> Self {
        let hash = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, what).hash(&mut hasher);
            hasher.finish()
        };
        Self(hash(0), hash(1))
    }
}

/// Contents of the values under `assignment`, by node; those that no step produces have none.
pub(super) fn contents(graph: &Graph, steps: &[Step], assignment: &Assignment) -> Vec<Option<Content>> {
    let mut contents: Vec<Option<Content>> = vec![None; graph.nodes.len()];
    for (at, step) in steps.iter().enumerate() {
        let spec: Option<Spec> = weight_of(graph, step).map(|weight| assignment.specs[weight]);
        let inputs: Vec<_> = step.reads(graph).map(|input| contents[input]).collect();
        contents[step.output] = Some(Content::of(&(at, spec, inputs)));
    }
    contents
}

/// What becomes of a step in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs.
    Runs,
    /// Its value is copied from those kept aside.
    Restored,
    /// Its value is there, or nothing reads it.
    Spared,
}

/// Values of one content kept aside, a buffer per batch.
struct Kept {
    buffers: Vec<Buffer>,
    bytes: u64,
    used: u64,
}

/// Contents of the buffers of nodes, the same for all batches, and values kept aside.
pub(super) struct History {
    /// By node.
    held: Vec<Option<Content>>,
    /// By node: the one whose buffer holds its value.
    root: Vec<NodeId>,
    /// By step: see [`cuts`].
    cuts: Vec<bool>,
    kept: HashMap<Content, Kept>,
    bytes: u64,
    budget: u64,
    clock: u64,
}

impl History {
    /// Nothing is known yet. At most `budget` bytes are kept aside.
    pub(super) fn new(
        graph: &Graph,
        steps: &[Step],
        (root, last_use): (Vec<NodeId>, Vec<usize>),
        budget: u64,
    ) -> Self {
        let cuts = cuts(graph, steps, &root, &last_use);
        let held = vec![None; graph.nodes.len()];
        Self { held, root, cuts, kept: HashMap::new(), bytes: 0, budget, clock: 0 }
    }

    /// Takes no buffer's content for granted any more; what is kept aside stays.
    pub(super) fn forget_held(&mut self) {
        self.held.fill(None);
    }

    /// Takes nothing for granted any more.
    pub(super) fn forget(&mut self) {
        self.forget_held();
        self.kept.clear();
        self.bytes = 0;
    }

    /// What becomes of every step in a trial that wants `contents`: only what the last value depends on is made. The
    /// buffers count as holding it from now on.
    pub(super) fn plan(&mut self, graph: &Graph, steps: &[Step], contents: &[Option<Content>]) -> Vec<Fate> {
        self.clock += 1;
        let mut wanted = vec![false; graph.nodes.len()];
        if let Some(last) = steps.last() {
            wanted[self.root[last.output]] = true;
        }
        let mut fates = vec![Fate::Spared; steps.len()];
        for (step, fate) in steps.iter().zip(&mut fates).rev() {
            let node = step.output;
            let kept = contents[node].and_then(|content| self.kept.get_mut(&content));
            let is_kept = kept.is_some();
            // Also where it is not read: a trial that resembles this one may need it.
            kept.into_iter().for_each(|kept| kept.used = self.clock);
            // A slice lies in its input's buffer, for which its readers ask.
            if self.root[node] != node || !wanted[node] || self.held[node] == contents[node] {
                continue;
            }
            self.held[node] = contents[node];
            if is_kept {
                *fate = Fate::Restored;
                continue;
            }
            *fate = Fate::Runs;
            step.reads(graph).for_each(|input| wanted[self.root[input]] = true);
        }
        fates
    }

    /// Copies back, into the buffers of `states`, what `fates` restores. Returns how many values those are.
    pub(super) fn restore(
        &self,
        gpu: &Gpu,
        states: &[State],
        steps: &[Step],
        fates: &[Fate],
        contents: &[Option<Content>],
    ) -> Result<u64> {
        let mut copies = Vec::new();
        let mut count = 0;
        for (step, _) in steps.iter().zip(fates).filter(|(_, fate)| **fate == Fate::Restored) {
            let kept = contents[step.output].and_then(|content| self.kept.get(&content));
            for (state, kept) in states.iter().zip(kept.into_iter().flat_map(|kept| &kept.buffers)) {
                copies.push((kept.clone(), state.buffer(step.output)?.clone()));
            }
            count += 1;
        }
        gpu.copies(&copies)?;
        Ok(count)
    }

    /// Keeps copies, from the buffers of `states`, of what ran and later trials may begin with.
    pub(super) fn keep(
        &mut self,
        gpu: &Gpu,
        states: &[State],
        steps: &[Step],
        fates: &[Fate],
        contents: &[Option<Content>],
    ) -> Result<()> {
        let mut copies = Vec::new();
        for (at, step) in steps.iter().enumerate().filter(|(at, _)| fates[*at] == Fate::Runs) {
            let Some(content) = contents[step.output].filter(|&content| self.wants(at, content)) else {
                continue;
            };
            let from: Vec<&Buffer> =
                states.iter().map(|state| state.buffer(step.output)).collect::<Result<_>>()?;
            let bytes = from.iter().map(|buffer| buffer.bytes()).sum();
            if !self.make_room(bytes) {
                continue;
            }
            // A device without memory for it does without.
            let to = from.iter().map(|buffer| gpu.buffer("a value kept", buffer.bytes()));
            let Ok(to) = to.collect::<Result<Vec<_>>>() else { break };
            copies.extend(from.into_iter().cloned().zip(to.iter().cloned()));
            self.insert(content, to, bytes);
        }
        gpu.copies(&copies)
    }

    /// Whether the value of step `at`, of `content`, is to be kept aside: it is worth it and not yet there.
    fn wants(&self, at: usize, content: Content) -> bool {
        self.cuts[at] && !self.kept.contains_key(&content)
    }

    /// Makes room for `bytes`, at the cost of what was of use longest ago. `false` where the budget is too small.
    fn make_room(&mut self, bytes: u64) -> bool {
        while self.bytes + bytes > self.budget {
            // What this trial restores or has just kept is left alone.
            let old = self.kept.iter().filter(|(_, kept)| kept.used < self.clock);
            let Some((&content, _)) = old.min_by_key(|(_, kept)| kept.used) else { return false };
            if let Some(kept) = self.kept.remove(&content) {
                self.bytes -= kept.bytes;
            }
        }
        true
    }

    /// Takes `buffers`, `bytes` in all, as copies of a value.
    fn insert(&mut self, content: Content, buffers: Vec<Buffer>, bytes: u64) {
        self.bytes += bytes;
        self.kept.insert(content, Kept { buffers, bytes, used: self.clock });
    }
}

/// The steps whose values are worth keeping: all that later steps read is that one value, and a matrix product lies
/// between it and the one before. In a transformer those are the sums that a block's attention and its MLP end in.
fn cuts(graph: &Graph, steps: &[Step], root: &[NodeId], last_use: &[usize]) -> Vec<bool> {
    let mut products = 0;
    let mut cut = |(at, step): (usize, &Step)| {
        let node = &graph.nodes[step.node];
        products += usize::from(matches!(node.op, Op::Linear { .. }));
        let alive = steps[..=at].iter().filter(|earlier| root[earlier.output] == earlier.output);
        let mut alive = alive.map(|earlier| earlier.output).filter(|&node| last_use[node] > at);
        let alone = alive.next() == Some(step.output) && alive.next().is_none();
        // A norm leaves more than its value: the magnitudes by which its rows are rounded.
        let is_cut = alone && products > 0 && at + 1 < steps.len() && !matches!(node.op, Op::RmsNorm { .. });
        if is_cut {
            products = 0;
        }
        is_cut
    };
    steps.iter().enumerate().map(&mut cut).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fusion;
    use super::super::plan::lifetimes;
    use super::*;
    use crate::graph::Role;

    /// Two blocks of a norm and two products, the second of which adds to what came in; one more product ends it.
    fn blocks() -> Graph {
        let mut graph = Graph::default();
        let table = graph.weight("e", 4, 8, Role::Embedding, false);
        let mut x = graph.push("x", Op::Embed { table }, &[], 8);
        let linear = |graph: &mut Graph, name: &str, x| {
            let weight = graph.weight(name, 8, 8, Role::Linear, false);
            graph.push(name, Op::Linear { weight, bias: None }, &[x], 8)
        };
        for block in 0..2 {
            let weight = graph.weight("n", 1, 8, Role::Vector, false);
            let norm = graph.push("norm", Op::RmsNorm { weight, eps: 1e-5 }, &[x], 8);
            let up = linear(&mut graph, &format!("{block} up"), norm);
            let down = linear(&mut graph, &format!("{block} down"), up);
            x = graph.push("sum", Op::Add, &[x, down], 8);
        }
        linear(&mut graph, "head", x);
        graph
    }

    struct Model {
        graph: Graph,
        steps: Vec<Step>,
        history: History,
    }

    impl Model {
        fn new(budget: u64) -> Self {
            let graph = blocks();
            let steps = fusion::steps(&graph, true, &[]);
            let history = History::new(&graph, &steps, lifetimes(&graph, &steps).expect("a graph"), budget);
            Self { graph, steps, history }
        }

        /// A trial with widths of the five products; values kept are of 10 bytes. Letters of its steps: r(un), c(opied), -.
        fn run(&mut self, widths: [u32; 5]) -> String {
            let mut assignment =
                Assignment { specs: vec!["f32".parse().expect("a spec"); self.graph.weights.len()] };
            let linears = self.graph.weights.iter().enumerate().filter(|(_, w)| w.role == Role::Linear);
            for ((id, _), width) in linears.zip(widths) {
                assignment.specs[id] = format!("int{width}").parse().expect("a spec");
            }
            let contents = contents(&self.graph, &self.steps, &assignment);
            let fates = self.history.plan(&self.graph, &self.steps, &contents);
            for (at, fate) in fates.iter().enumerate() {
                let Some(content) = contents[self.steps[at].output] else { continue };
                if *fate == Fate::Runs && self.history.wants(at, content) && self.history.make_room(10) {
                    self.history.insert(content, Vec::new(), 10);
                }
            }
            let letter = |fate: &Fate| match fate {
                Fate::Runs => 'r',
                Fate::Restored => 'c',
                Fate::Spared => '-',
            };
            fates.iter().map(letter).collect()
        }
    }

    #[test]
    fn values_that_end_a_block_are_kept() {
        let Model { steps, history, .. } = Model::new(0);
        let kept: Vec<usize> = (0..steps.len()).filter(|&at| history.cuts[at]).collect();
        // embed, norm, up, down + sum, norm, up, down + sum, head
        assert_eq!((steps.len(), kept), (8, vec![3, 6]));
    }

    #[test]
    fn a_trial_runs_what_it_shares_with_no_earlier_one() {
        let mut model = Model::new(1000);
        assert_eq!(model.run([8, 8, 8, 8, 8]), "rrrrrrrr");
        assert_eq!(model.run([8, 8, 8, 8, 8]), "--------");
        // The table and the norm of it are still there.
        assert_eq!(model.run([4, 8, 8, 8, 8]), "--rrrrrr");
        // As the first, but for the end: its sum is copied back and nothing before it runs.
        assert_eq!(model.run([8, 8, 8, 8, 4]), "------cr");
        assert_eq!(model.run([8, 8, 4, 8, 4]), "---crrrr");
        assert_eq!(model.run([8, 8, 4, 8, 8]), "-------r");
        assert_eq!(model.run([4, 8, 8, 8, 2]), "------cr");
    }

    #[test]
    fn a_copy_back_leaves_no_false_claims_on_buffers_it_spared() {
        let mut model = Model::new(1000);
        model.run([8, 8, 8, 8, 8]);
        model.run([4, 8, 8, 8, 8]);
        model.run([8, 8, 8, 8, 4]);
        // "up" of the first block still holds what the second trial left.
        assert_eq!(model.run([4, 2, 8, 8, 8]), "---rrrrr");
        assert_eq!(model.run([8, 2, 8, 8, 8]), "--rrrrrr");
    }

    #[test]
    fn over_the_budget_goes_what_was_of_use_longest_ago() {
        let mut model = Model::new(40);
        model.run([8, 8, 8, 8, 8]);
        model.run([4, 8, 8, 8, 8]);
        model.run([8, 8, 8, 8, 4]);
        // Takes the place of the second trial's two.
        model.run([2, 8, 8, 8, 4]);
        assert_eq!(model.history.bytes, 40);
        assert_eq!(model.run([8, 8, 8, 8, 8]), "------cr");
        assert_eq!(model.run([4, 8, 8, 8, 8]), "--rrrrrr");
        // One value of a trial fits, none, and nothing is known any more.
        let mut model = Model::new(15);
        model.run([8, 8, 8, 8, 8]);
        assert_eq!((model.history.bytes, model.history.kept.len()), (10, 1));
        let mut model = Model::new(0);
        model.run([8, 8, 8, 8, 8]);
        assert_eq!(model.run([4, 8, 8, 8, 8]), "--rrrrrr");
        model.history.forget();
        assert_eq!(model.run([4, 8, 8, 8, 8]), "rrrrrrrr");
    }
}
