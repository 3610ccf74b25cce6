use super::*;

const LAYERS: [&str; 2] = ["self_attn.q_proj", "mlp.up_proj"];

fn graph() -> Graph {
    let mut graph = Graph::default();
    graph.weight("model.embed_tokens.weight", 10, 64, Role::Embedding, false);
    for block in 0..2 {
        for layer in LAYERS {
            graph.weight(&format!("model.layers.{block}.{layer}.weight"), 8, 64, Role::Linear, false);
        }
    }
    graph.weight("model.norm.weight", 1, 64, Role::Vector, false);
    graph.weight("lm_head.weight", 10, 64, Role::Head, false);
    graph
}

fn space_of(text: SpaceText) -> Result<Space> {
    Space::new(&graph(), &[Format::F16; 7], &text)
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn space(entries: &[&str]) -> Result<Space> {
    space_of(SpaceText { entries: texts(entries), ..SpaceText::default() })
}

fn candidates(space: &Space, dimension: usize) -> Vec<String> {
    space.dimensions[dimension].candidates.iter().map(Spec::to_string).collect()
}

#[test]
fn one_list_means_all_block_linears() {
    let space = space(&["int2, int4(group=32), qlinear(bits=4)"]).unwrap();
    assert_eq!(space.dimensions.len(), 4);
    assert_eq!(candidates(&space, 3), ["int2", "int4(group=32)", "qlinear(bits=4)"]);
    assert_eq!(space.size(), 81.0);
    assert_eq!(space.base.specs[0].to_string(), "f16");
    let point = vec![0, 1, 2, 0];
    let assignment = space.assignment(&point);
    assert_eq!(assignment.specs[2].to_string(), "int4(group=32)");
    assert_eq!(assignment.specs[6].to_string(), "f16");
    assert_eq!(space.point(&assignment), Some(point));
    assert_eq!(space.uniform()[1], ("int4(group=32)".to_owned(), vec![1; 4]));
    assert_eq!(space.variants().len(), 12);
}

#[test]
fn patterns_and_exact_names() {
    let space = space(&["int4,int8", "*.mlp.*=mxint8", "lm_head=int8,f16"]).unwrap();
    assert_eq!(space.dimensions.len(), 5);
    assert_eq!(candidates(&space, 1), ["mxint8"]);
    assert_eq!(candidates(&space, 4), ["int8", "f16"]);
    assert_eq!(space.uniform().len(), 1, "no spec is everywhere: first candidates of each");
    // `bias=` is no pattern.
    assert_eq!(split_entry("int4@int8@bias=int8").0, None);
    assert_eq!(split_entry("int4(group=32),int8@bias=int8").0, None);
}

#[test]
fn several_values_and_ranges() {
    let list = |text: &str| -> Vec<String> {
        candidates(&space(&[text]).unwrap_or_else(|error| panic!("{text}: {error}")), 0)
    };
    assert_eq!(list("int2..4"), ["int2", "int3", "int4"]);
    assert_eq!(
        list("int2|8(group=32|64)"),
        ["int2(group=32)", "int2(group=64)", "int8(group=32)", "int8(group=64)"]
    );
    assert_eq!(list("mxint4|6|8"), ["mxint4", "mxint6", "mxint8"]);
    assert_eq!(list("qlinear(bits=2|4)"), ["qlinear(bits=2)", "qlinear(bits=4)"]);
    assert_eq!(list("mxfp6_e2m3|mxfp6_e3m2").len(), 2);
    assert_eq!(list("block_fp(8,8,block_size=[1,16]|[1,32])").len(), 2);
    assert_eq!(list("int4,int4,int4").len(), 1, "none twice");
}

#[test]
fn families_leave_out_what_is_no_format() {
    for (name, _) in FAMILIES {
        let space = space(&[name]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!space.dimensions[0].candidates.is_empty());
    }
    let space = space(&["minifloat"]).unwrap();
    assert_eq!(space.dimensions[0].candidates.len() + space.left_out.len(), 27 + 9);
}

#[test]
fn activations_combine_with_specs_that_have_none() {
    let space = space_of(SpaceText {
        entries: texts(&["int4,qlinear(bits=8)"]),
        activations: texts(&["none,int8"]),
        ..SpaceText::default()
    });
    assert_eq!(candidates(&space.unwrap(), 0), ["int4", "int4@int8", "qlinear(bits=8)"]);
    let same = |entries: &[&str]| {
        space_of(SpaceText { entries: texts(entries), activations: texts(&["same"]), ..SpaceText::default() })
    };
    assert_eq!(candidates(&same(&["int4,mxfp4"]).unwrap(), 0), ["qlinear(bits=4)", "mxfp4@mxfp4"]);
    assert!(same(&["base11"]).unwrap_err().to_string().contains("no format of activations"));
    assert_eq!(same(&["base11|f32"]).unwrap().left_out.len(), 1);
}

#[test]
fn ties_and_exclusions() {
    let with = |tie: &[&str], keep: &[&str]| {
        space_of(SpaceText {
            entries: texts(&["int4,int8"]),
            tie: texts(tie),
            keep_f32: texts(keep),
            ..SpaceText::default()
        })
    };
    let names = |space: &Space| space.dimensions.iter().map(|d| d.weights.clone()).collect::<Vec<_>>();
    assert_eq!(names(&with(&["*.q_proj"], &[]).unwrap()), [vec![1, 3], vec![2], vec![4]]);
    assert_eq!(names(&with(&["model.layers.{}.*"], &[]).unwrap()), [vec![1, 2], vec![3, 4]]);
    assert_eq!(names(&with(&["*"], &["*.0.mlp.*"]).unwrap()), [vec![1, 3, 4]]);
    let kept = with(&[], &["*.q_proj"]).unwrap();
    assert_eq!(kept.base.specs[1].to_string(), "f32");
    assert!(with(&[], &["*"]).unwrap_err().to_string().contains("nothing is left"));
    assert!(with(&["*.k_proj"], &[]).unwrap_err().to_string().contains("--tie"));
    assert!(with(&[], &["*.k_proj"]).unwrap_err().to_string().contains("--keep-f32"));
}

#[test]
fn wrong_spaces() {
    for (entries, want) in [
        (vec![], "empty space"),
        (vec![""], "an empty entry"),
        (vec!["int4,,int8"], "an empty entry"),
        (vec!["*.k_proj=int4"], "matches none"),
        (vec!["int99"], "int99"),
        (vec!["int8..2"], "no range"),
        (vec!["int4(group=32"], "not closed"),
        (vec!["q4_k"], "illegal for layer"),
        (vec!["q4_k|q5_k"], "none of the formats"),
        (vec!["model.embed_tokens=int4@int8"], "embedding"),
        (vec!["int2..9999"], "no range"),
        (vec!["integer(1..100,1..100)"], "more than"),
    ] {
        let message = space(&entries).unwrap_err().to_string();
        assert!(message.contains(want), "{entries:?}: {message}");
    }
}
