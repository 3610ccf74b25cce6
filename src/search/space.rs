//! The space of a search: which layers choose among which formats.
//!
//! Written as text, one or more entries `[PATTERN=]LIST`. Without a pattern the list holds for all block linears; with
//! one, for those it matches (a name without `*` may also be the head or an embedding); later entries win. A list holds,
//! separated by commas,
//!
//! * specs: `int4(group=128)`, `int4@int8`, `qlinear(bits=4)`;
//! * specs with several values: `minifloat_denorm(8|16,3|4,7)` or `int2..8`, which stand for every combination;
//! * families, see [`FAMILIES`].
//!
//! Combinations that are no format, or that a layer cannot hold, are left out where they come from several values or a
//! family; a spec written out must be legal for every layer it is meant for.

use std::collections::HashMap;

use super::Point;
use crate::error::{Error, Result, invalid};
use crate::format::{ActivationFormat, Format, Spec};
use crate::graph::{Assignment, Graph, Role, WeightId, matches_pattern};

/// Precision families and the specs they stand for: those of MASE's linear layers with the widths 8, 16, 32, fraction
/// widths 2, 4, 8, exponent widths 2 to 4, exponent biases 3, 7, 15 and blocks of 16 and 32 that its tutorials search.
pub const FAMILIES: [(&str, &str); 9] = [
    ("integer", "integer(8|16|32,2|4|8)"),
    ("minifloat", "minifloat_denorm(8|16|32,2|3|4,3|7|15),minifloat_ieee(8|16|32,2|3|4)"),
    ("log", "log(8|16|32,3|7|15)"),
    (
        "block",
        "block_fp(8|16|32,8,block_size=[1,16]|[1,32]),\
         block_minifloat(8|16|32,2|3|4,8,[1,16]|[1,32]),block_log(8|16|32,8,[1,16]|[1,32])",
    ),
    ("binary", "binary,binary_mean,binary_mean(scale=row),residual_sign(levels=2)"),
    ("full", "f32"),
    ("int", "int2..8(group=32|64|128)"),
    ("mxint", "mxint4|6|8"),
    ("mxfp", "mxfp4,mxfp6_e2m3|mxfp6_e3m2,mxfp8_e4m3|mxfp8_e5m2"),
];

/// Most specs one list may stand for.
const MAX_CANDIDATES: usize = 1024;

/// A choice: layers that always have the same spec, and the specs they may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Dimension {
    /// Name of the layer, or of the first of several tied ones with `(+N)`.
    pub name: String,
    /// The weights, in graph order.
    pub weights: Vec<WeightId>,
    /// At least one spec, none twice.
    pub candidates: Vec<Spec>,
}

/// How a space is described.
#[derive(Clone, Debug, Default)]
pub struct SpaceText {
    /// Entries `[PATTERN=]LIST`, at least one.
    pub entries: Vec<String>,
    /// Activation formats that every candidate without one of its own is combined with; `none` among them keeps
    /// activations in f32, `same` rounds them as the weight. Empty: none.
    pub activations: Vec<String>,
    /// Patterns of layers that share one choice. `{}` in a pattern stands for any text; only layers in which it is the
    /// same text are tied.
    pub tie: Vec<String>,
    /// Patterns of layers that stay in f32.
    pub keep_f32: Vec<String>,
}

/// A space over the layers of a graph.
#[derive(Clone, Debug)]
pub struct Space {
    /// The choices, in graph order of their first layers.
    pub dimensions: Vec<Dimension>,
    /// What layers have that are not searched.
    pub base: Assignment,
    /// Combinations that were left out, with the reason.
    pub left_out: Vec<String>,
}

impl Space {
    /// The space that `text` describes. `native` is the format each weight has in the checkpoint; layers that no entry
    /// names keep it.
    ///
    /// # Errors
    /// When the space is empty, a pattern matches nothing, or a spec is illegal for a layer.
    pub fn new(graph: &Graph, native: &[Format], text: &SpaceText) -> Result<Self> {
        let mut base = Assignment::native(graph, native);
        let mut left_out = Vec::new();
        let mut lists: HashMap<WeightId, Vec<Spec>> = HashMap::new();
        if text.entries.is_empty() {
            invalid!("an empty space; want e.g. --space 'int2,int4(group=128),int8'");
        }
        for entry in &text.entries {
            let (pattern, list) = split_entry(entry);
            let specs = expand(list, &text.activations, &mut left_out)?;
            let pattern = pattern.unwrap_or("*");
            let mut weights = matching(graph, pattern, true);
            if weights.is_empty() {
                return Err(matches_nothing(graph, "--space", pattern));
            }
            weights.sort_unstable();
            for id in weights {
                let legal = legal(graph, id, &specs, &mut left_out)?;
                lists.insert(id, legal);
            }
        }
        for pattern in &text.keep_f32 {
            let weights = matching(graph, pattern, true);
            if weights.is_empty() {
                return Err(matches_nothing(graph, "--keep-f32", pattern));
            }
            for id in weights {
                lists.remove(&id);
                base.specs[id] = Spec::from(Format::F32);
            }
        }
        let dimensions = dimensions(graph, lists, &text.tie)?;
        if dimensions.is_empty() {
            invalid!(
                "nothing is left to search: every layer is kept in f32; name fewer of them with --keep-f32"
            );
        }
        left_out.dedup();
        Ok(Self { dimensions, base, left_out })
    }

    /// The assignment of a point.
    pub fn assignment(&self, point: &[usize]) -> Assignment {
        let mut assignment = self.base.clone();
        for (dimension, &choice) in self.dimensions.iter().zip(point) {
            for &weight in &dimension.weights {
                assignment.specs[weight] = dimension.candidates[choice];
            }
        }
        assignment
    }

    /// The point whose assignment this is, if the space has it.
    pub fn point(&self, assignment: &Assignment) -> Option<Point> {
        let choice = |dimension: &Dimension| {
            let spec = assignment.specs[dimension.weights[0]];
            let same = dimension.weights.iter().all(|&weight| assignment.specs[weight] == spec);
            dimension.candidates.iter().position(|&candidate| same && candidate == spec)
        };
        let point: Point = self.dimensions.iter().map(choice).collect::<Option<_>>()?;
        (self.assignment(&point) == *assignment).then_some(point)
    }

    /// The points that have one spec everywhere, with its text. Where no spec is a candidate of all dimensions: the
    /// first candidate of each, the second of each, and so on.
    pub fn uniform(&self) -> Vec<(String, Point)> {
        let everywhere = |spec: &Spec| {
            let place = |dimension: &Dimension| dimension.candidates.iter().position(|c| c == spec);
            let point: Option<Point> = self.dimensions.iter().map(place).collect();
            point.map(|point| (spec.to_string(), point))
        };
        let Some(first) = self.dimensions.first() else { return Vec::new() };
        let uniform: Vec<_> = first.candidates.iter().filter_map(everywhere).collect();
        if !uniform.is_empty() {
            return uniform;
        }
        let fewest = self.dimensions.iter().map(|d| d.candidates.len()).min().unwrap_or(0);
        let nth = |n: usize| (format!("candidate {}", n + 1), vec![n; self.dimensions.len()]);
        (0..fewest).map(nth).collect()
    }

    /// Number of points; infinite beyond `f64`.
    pub fn size(&self) -> f64 {
        self.dimensions.iter().map(|dimension| dimension.candidates.len() as f64).product()
    }

    /// Every (weight, format) that a point can ask for.
    pub fn variants(&self) -> Vec<(WeightId, Format)> {
        let mut variants = Vec::new();
        for dimension in &self.dimensions {
            for &weight in &dimension.weights {
                for candidate in &dimension.candidates {
                    if !variants.contains(&(weight, candidate.weight)) {
                        variants.push((weight, candidate.weight));
                    }
                }
            }
        }
        variants
    }
}

/// What `--activation` asks for.
#[derive(Clone, Copy, PartialEq)]
enum Activation {
    None,
    /// The format of the weight.
    Same,
    Format(ActivationFormat),
}

impl Activation {
    fn of(self, weight: Format) -> Result<Option<ActivationFormat>> {
        match self {
            Self::None => Ok(None),
            Self::Same if weight == Format::F32 => Ok(None),
            Self::Same => weight.to_string().parse().map(Some),
            Self::Format(format) => Ok(Some(format)),
        }
    }
}

/// `PATTERN=LIST`, or a list alone. An equals sign inside parentheses or of `@bias=` belongs to a spec.
fn split_entry(entry: &str) -> (Option<&str>, &str) {
    let mut depth = 0usize;
    for (at, c) in entry.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '=' if depth == 0 && !entry[..at].contains(['@', ',']) => {
                return (Some(entry[..at].trim()), &entry[at + 1..]);
            }
            _ => {}
        }
    }
    (None, entry)
}

/// The pieces of `text` between `separator`s outside parentheses and brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut begin, mut pieces) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            c if c == separator && depth == 0 => {
                pieces.push(&text[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(&text[begin..]);
    pieces.into_iter().map(str::trim).collect()
}

/// The entries of a list, separated by commas outside parentheses and brackets.
pub fn split_list(text: &str) -> Vec<&str> {
    split(text, ',')
}

/// The specs a list stands for.
fn expand(list: &str, activations: &[String], left_out: &mut Vec<String>) -> Result<Vec<(Spec, bool)>> {
    let mut found: Vec<(Spec, bool)> = Vec::new();
    let mut activation_formats: Vec<Activation> = Vec::new();
    for text in activations.iter().flat_map(|text| split(text, ',')) {
        let format = match text {
            "none" | "f32" => Activation::None,
            "same" => Activation::Same,
            text => {
                let wrong = |error| Error::Invalid(format!("--activation `{text}`: {error}"));
                Activation::Format(text.parse().map_err(wrong)?)
            }
        };
        if !activation_formats.contains(&format) {
            activation_formats.push(format);
        }
    }
    for item in split(list, ',') {
        if item.is_empty() {
            invalid!("space `{list}`: an empty entry between commas");
        }
        let family = FAMILIES.iter().find(|(name, _)| *name == item);
        let texts: Vec<&str> = family.map_or(vec![item], |(_, list)| split(list, ','));
        for text in texts {
            let combinations = combinations(text)?;
            let many = family.is_some() || combinations.len() > 1;
            for combination in combinations {
                match combination.parse::<Spec>() {
                    Ok(spec) => found.push((spec, many)),
                    Err(error) if many => left_out.push(format!("{combination}: {error}")),
                    Err(error) => return Err(Error::Invalid(format!("space `{list}`: {error}"))),
                }
            }
        }
        if found.len() > MAX_CANDIDATES {
            invalid!("space `{list}` stands for more than {MAX_CANDIDATES} specs; name fewer values");
        }
    }
    let mut specs: Vec<(Spec, bool)> = Vec::new();
    for (spec, many) in found {
        let combined: Vec<Spec> = match spec.activation {
            None if !activation_formats.is_empty() => {
                let mut combined = Vec::with_capacity(activation_formats.len());
                for activation in &activation_formats {
                    match activation.of(spec.weight) {
                        Ok(activation) => combined.push(Spec { activation, ..spec }),
                        Err(error) if many => left_out.push(format!("{spec}@same: {error}")),
                        Err(error) => {
                            invalid!("--activation same: {spec} is no format of activations: {error}")
                        }
                    }
                }
                combined
            }
            _ => vec![spec],
        };
        for spec in combined {
            if !specs.iter().any(|(known, _)| *known == spec) {
                specs.push((spec, many));
            }
        }
    }
    if specs.is_empty() {
        invalid!(
            "space `{list}` holds no format{}",
            left_out.last().map_or(String::new(), |why| format!(": {why}"))
        );
    }
    Ok(specs)
}

/// Every text that `a|b` and `a..b` in `text` stand for.
fn combinations(text: &str) -> Result<Vec<String>> {
    // Outside parentheses alternatives are whole names or the number a name ends with.
    let (name, arguments) = match text.find('(') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut texts = Vec::new();
    for name in names(name)? {
        texts.push(name);
    }
    let Some(inner) = arguments.strip_prefix('(') else { return Ok(texts) };
    let Some(close) = inner.rfind(')') else {
        invalid!("`{text}`: a parenthesis is not closed");
    };
    let (inner, rest) = inner.split_at(close);
    let mut lists: Vec<String> = vec![String::new()];
    for (i, argument) in split(inner, ',').into_iter().enumerate() {
        let (key, value) = match split(argument, '=')[..] {
            [key, value] => (format!("{key}="), value),
            _ => (String::new(), argument),
        };
        let mut longer = Vec::new();
        for list in &lists {
            for value in split(value, '|') {
                for value in range(value)? {
                    let comma = if i > 0 { "," } else { "" };
                    longer.push(format!("{list}{comma}{key}{value}"));
                }
            }
        }
        if longer.len() > MAX_CANDIDATES {
            invalid!("`{text}` stands for more than {MAX_CANDIDATES} specs; name fewer values");
        }
        lists = longer;
    }
    Ok(texts.iter().flat_map(|name| lists.iter().map(move |list| format!("{name}({list}{rest}"))).collect())
}

/// `int2..8` is int2 to int8, `mxint4|8` is mxint4 and mxint8, `a|b` both names.
fn names(text: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut stem = "";
    for (i, piece) in text.split('|').map(str::trim).enumerate() {
        let (own, numbers) = match piece.find("..") {
            Some(at) => {
                let digits = piece[..at].chars().rev().take_while(char::is_ascii_digit).count();
                piece.split_at(at - digits)
            }
            None => (piece, ""),
        };
        if i == 0 {
            stem = own.trim_end_matches(|c: char| c.is_ascii_digit());
        }
        let is_number = !piece.is_empty() && piece.chars().all(|c| c.is_ascii_digit());
        match (numbers, is_number) {
            ("", true) => names.push(format!("{stem}{piece}")),
            ("", false) => names.push(piece.to_owned()),
            (numbers, _) => {
                let own = if own.is_empty() { stem } else { own };
                names.extend(range(numbers)?.into_iter().map(|number| format!("{own}{number}")));
            }
        }
    }
    Ok(names)
}

/// `2..8` is every whole number from 2 to 8; anything else is itself.
fn range(text: &str) -> Result<Vec<String>> {
    let Some((from, to)) = text.split_once("..") else { return Ok(vec![text.trim().to_owned()]) };
    match (from.trim().parse::<i32>(), to.trim().parse::<i32>()) {
        (Ok(from), Ok(to)) if from <= to && to - from < MAX_CANDIDATES as i32 => {
            Ok((from..=to).map(|number| number.to_string()).collect())
        }
        _ => invalid!("`{text}` is no range; want e.g. 2..8"),
    }
}

/// The layers `pattern` means: block linears, or with an exact name any matrix.
fn matching(graph: &Graph, pattern: &str, exact: bool) -> Vec<WeightId> {
    let pattern = pattern.strip_suffix(".weight").unwrap_or(pattern);
    let is_match = |id: &WeightId| {
        let weight = &graph.weights[*id];
        match weight.role {
            Role::Linear => matches_pattern(pattern, weight.layer()),
            Role::Head | Role::Embedding => exact && pattern == weight.layer(),
            Role::Vector => false,
        }
    };
    (0..graph.weights.len()).filter(is_match).collect()
}

fn matches_nothing(graph: &Graph, option: &str, pattern: &str) -> Error {
    let layers = || graph.weights.iter().filter(|w| w.role != Role::Vector).map(|w| w.layer());
    let near = crate::error::closest_names(pattern, layers(), 3).join(", ");
    Error::Invalid(format!(
        "{option} `{pattern}` matches none of the {} layers of the model; near names: {near}",
        layers().count()
    ))
}

/// Those of `specs` that the layer can hold.
fn legal(
    graph: &Graph,
    id: WeightId,
    specs: &[(Spec, bool)],
    left_out: &mut Vec<String>,
) -> Result<Vec<Spec>> {
    let weight = &graph.weights[id];
    let mut legal = Vec::with_capacity(specs.len());
    for &(spec, many) in specs {
        let fits = || -> Result<()> {
            spec.weight.layout(weight.rows, weight.cols)?;
            if let Some(activation) = spec.activation {
                activation.check_width(weight.cols)?;
            }
            if weight.role == Role::Embedding && (spec.activation.is_some() || spec.bias.is_some()) {
                invalid!("an embedding is looked up and has neither activations nor a bias to quantize");
            }
            Ok(())
        };
        match fits() {
            Ok(()) => legal.push(spec),
            Err(error) if many => {
                let why = format!("{spec} in {}: {error}", weight.layer());
                if !left_out.contains(&why) {
                    left_out.push(why);
                }
            }
            Err(error) => {
                return Err(Error::Invalid(format!(
                    "`{spec}` is illegal for layer `{}` [{}, {}]: {error}",
                    weight.layer(),
                    weight.rows,
                    weight.cols
                )));
            }
        }
    }
    if legal.is_empty() {
        invalid!(
            "layer `{}` [{}, {}] can hold none of the formats of the space",
            weight.layer(),
            weight.rows,
            weight.cols
        );
    }
    Ok(legal)
}

/// One dimension per layer, or per group of tied layers.
fn dimensions(
    graph: &Graph,
    mut lists: HashMap<WeightId, Vec<Spec>>,
    ties: &[String],
) -> Result<Vec<Dimension>> {
    let mut groups: Vec<Vec<WeightId>> = Vec::new();
    for pattern in ties {
        let mut by_key: Vec<(String, Vec<WeightId>)> = Vec::new();
        for id in 0..graph.weights.len() {
            let free = lists.contains_key(&id) && !groups.iter().any(|group| group.contains(&id));
            if let (true, Some(key)) = (free, tie_key(pattern, graph.weights[id].layer())) {
                match by_key.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, ids)) => ids.push(id),
                    None => by_key.push((key, vec![id])),
                }
            }
        }
        if by_key.is_empty() {
            return Err(matches_nothing(graph, "--tie", pattern));
        }
        groups.extend(by_key.into_iter().map(|(_, ids)| ids));
    }
    let tied: Vec<WeightId> = groups.iter().flatten().copied().collect();
    groups.extend(lists.keys().filter(|id| !tied.contains(id)).map(|&id| vec![id]));
    groups.sort_unstable();
    let mut dimensions = Vec::with_capacity(groups.len());
    for weights in groups {
        let name = graph.weights[weights[0]].layer();
        let mut candidates = lists.remove(&weights[0]).unwrap_or_default();
        for id in &weights[1..] {
            let other = lists.remove(id).unwrap_or_default();
            candidates.retain(|spec| other.contains(spec));
        }
        if candidates.is_empty() {
            invalid!("the {} layers tied to `{name}` have no format in common", weights.len());
        }
        let name = match weights.len() {
            1 => name.to_owned(),
            n => format!("{name} (+{})", n - 1),
        };
        dimensions.push(Dimension { name, weights, candidates });
    }
    Ok(dimensions)
}

/// What `{}` stands for where `pattern` matches `name`; an empty text where the pattern has no `{}`.
fn tie_key(pattern: &str, name: &str) -> Option<String> {
    let Some((before, after)) = pattern.split_once("{}") else {
        return matches_pattern(pattern, name).then(String::new);
    };
    // The shortest text that makes the rest match: `layers.{}.mlp.*` means one component.
    let ends = |from: usize| name[from..].char_indices().map(move |(i, _)| from + i).chain([name.len()]);
    ends(0).find_map(|begin| {
        let fits = matches_pattern(before, &name[..begin]);
        let end = ends(begin).find(|&end| fits && end > begin && matches_pattern(after, &name[end..]))?;
        Some(name[begin..end].to_owned())
    })
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
