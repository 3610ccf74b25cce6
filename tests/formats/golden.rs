//! The golden cases of `tests/golden` and how outputs are compared with them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The cases, the inputs and the files they lie in.
pub(crate) struct Golden {
    pub(crate) cases: Vec<Value>,
    inputs: Value,
    files: HashMap<String, Vec<u8>>,
}

impl Golden {
    pub(crate) fn load() -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        let mut manifest: Value = serde_json::from_str(&text).unwrap();
        let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
        Self {
            cases: manifest["cases"].as_array_mut().unwrap().drain(..).collect(),
            inputs: manifest["inputs"].take(),
            files: files.map(|path| (name(&path), std::fs::read(path).unwrap())).collect(),
        }
    }

    /// The cases of a format; the count guards against a filter that matches nothing.
    pub(crate) fn of(&self, format: &str, count: usize) -> Vec<Case<'_>> {
        let cases: Vec<_> = self.cases.iter().filter(|case| case["format"] == format).collect();
        assert_eq!(cases.len(), count, "{format}");
        cases.into_iter().map(|value| Case::new(self, value)).collect()
    }

    fn tensor(&self, file: &str, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.files[file]).unwrap();
        let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        Tensor { dtype: view.dtype(), bytes: view.data().to_vec(), shape: view.shape().to_vec() }
    }

    /// An input by name; `name[:n]` is its first n rows.
    pub(crate) fn input(&self, name: &str) -> Tensor {
        let (name, rows) = match name.split_once("[:") {
            Some((name, rows)) => (name, Some(rows.trim_end_matches(']').parse::<usize>().unwrap())),
            None => (name, None),
        };
        let mut tensor = self.tensor(self.inputs[name]["file"].as_str().unwrap(), name);
        if let Some(rows) = rows {
            tensor.bytes.truncate(tensor.bytes.len() / tensor.shape[0] * rows);
            tensor.shape[0] = rows;
        }
        tensor
    }
}

/// A tensor as stored.
pub(crate) struct Tensor {
    dtype: Dtype,
    bytes: Vec<u8>,
    pub(crate) shape: Vec<usize>,
}

impl Tensor {
    fn words<const N: usize, T>(&self, dtype: Dtype, from: impl Fn([u8; N]) -> T) -> Vec<T> {
        assert_eq!(self.dtype, dtype);
        self.bytes.chunks(N).map(|bytes| from(bytes.try_into().unwrap())).collect()
    }

    /// Floats of any width, widened.
    pub(crate) fn floats(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.words(Dtype::F32, f32::from_le_bytes),
            Dtype::F16 => self.words(Dtype::F16, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => self.words(Dtype::F64, |bytes| f64::from_le_bytes(bytes) as f32),
            _ => self.words(Dtype::BF16, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
    }

    /// Integers of any width, widened.
    pub(crate) fn integers(&self) -> Vec<i64> {
        match self.dtype {
            Dtype::U8 => self.words(Dtype::U8, |[byte]| byte.into()),
            Dtype::I8 => self.words(Dtype::I8, |[byte]| (byte as i8).into()),
            Dtype::I16 => self.words(Dtype::I16, |bytes| i16::from_le_bytes(bytes).into()),
            _ => self.words(Dtype::U32, |bytes| u32::from_le_bytes(bytes).into()),
        }
    }

    pub(crate) fn rows_cols(&self) -> (usize, usize) {
        let cols = *self.shape.last().unwrap();
        (self.shape.iter().product::<usize>() / cols, cols)
    }
}

/// One case. Outputs are compared by name, and [`Case::finish`] finds those that no one compared.
pub(crate) struct Case<'a> {
    pub(crate) golden: &'a Golden,
    pub(crate) value: &'a Value,
    compared: RefCell<BTreeSet<String>>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(golden: &'a Golden, value: &'a Value) -> Self {
        Self { golden, value, compared: RefCell::default() }
    }

    pub(crate) fn id(&self) -> &str {
        self.value["id"].as_str().unwrap()
    }

    pub(crate) fn format(&self) -> &str {
        self.value["format"].as_str().unwrap()
    }

    /// Whether the original raises an exception.
    pub(crate) fn raises(&self) -> bool {
        self.value["status"] == "raises"
    }

    pub(crate) fn param(&self, name: &str) -> &'a Value {
        &self.value["params"][name]
    }

    pub(crate) fn int<T: TryFrom<i64>>(&self, name: &str) -> T {
        let value = self.param(name).as_i64().unwrap_or_else(|| panic!("{}: no {name}", self.id()));
        T::try_from(value).ok().unwrap_or_else(|| panic!("{}: {name} = {value}", self.id()))
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.param(name).as_bool().unwrap_or(default)
    }

    pub(crate) fn input(&self) -> Tensor {
        self.golden.input(self.value["input"].as_str().unwrap())
    }

    /// The input that a parameter names.
    pub(crate) fn named(&self, param: &str) -> Tensor {
        self.golden.input(self.param(param).as_str().unwrap())
    }

    /// An output for a comparison.
    pub(crate) fn output(&self, name: &str) -> Tensor {
        self.compared.borrow_mut().insert(name.to_string());
        let output = &self.value["outputs"][name];
        let tensor = self.golden.tensor(output["file"].as_str().unwrap(), output["name"].as_str().unwrap());
        assert_eq!(serde_json::json!(tensor.shape), output["shape"], "{}: {name}", self.id());
        tensor
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value["outputs"].get(name).is_some()
    }

    /// Bit-exact, with NaN == NaN and -0 == +0, except exactly the elements where the original's f32
    /// logarithm rounds an exponent up or down: those differ, all of them, and no others.
    pub(crate) fn assert_floats(&self, name: &str, got: &[f32]) {
        let want = self.output(name).floats();
        assert_eq!(got.len(), want.len(), "{} {name}: length", self.id());
        let listed = self.value["log2_sensitive"].as_array().map(Vec::as_slice).unwrap_or_default();
        let listed: BTreeSet<usize> = listed.iter().map(|index| index.as_u64().unwrap() as usize).collect();
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let same = got == want || (got.is_nan() && want.is_nan());
            assert!(
                same != listed.contains(&i),
                "{} {name}: element {i}: got {got:e}, want {want:e}",
                self.id()
            );
        }
    }

    pub(crate) fn assert_integers<T: Copy + Into<i64>>(&self, name: &str, got: &[T]) {
        let got: Vec<i64> = got.iter().map(|&got| got.into()).collect();
        let want = self.output(name).integers();
        assert_eq!(got.len(), want.len(), "{} {name}: length", self.id());
        if let Some(i) = (0..got.len()).find(|&i| got[i] != want[i]) {
            panic!("{} {name}: element {i}: got {}, want {}", self.id(), got[i], want[i]);
        }
    }

    /// Products summed in another order: within `relative` of each value and of the largest.
    pub(crate) fn assert_near(&self, name: &str, got: &[f32], shape: &[usize], relative: f32) {
        let tensor = self.output(name);
        assert_eq!(tensor.shape, shape, "{} {name}: shape", self.id());
        let want = tensor.floats();
        let largest = want.iter().fold(0.0f32, |max, want| max.max(want.abs()));
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let bound = relative * want.abs() + 0.1 * relative * largest;
            assert!((got - want).abs() <= bound, "{} {name}: element {i}: got {got}, want {want}", self.id());
        }
        assert_eq!(got.len(), want.len(), "{} {name}: length", self.id());
    }

    /// The original raises, so there is an error that says what, got and want.
    pub(crate) fn assert_refused<T>(&self, result: anybit::Result<T>) {
        let message = match result {
            Ok(_) => panic!("{}: want an error, as upstream: {}", self.id(), self.value["error"]),
            Err(error) => error.to_string(),
        };
        assert!(message.len() > 20 && !message.contains('\n'), "{}: {message}", self.id());
        assert!(self.value["outputs"].is_null());
    }

    /// Fails if an output was not compared.
    pub(crate) fn finish(self) {
        let compared = self.compared.into_inner();
        let outputs = self.value["outputs"].as_object().map(|outputs| outputs.keys().cloned().collect());
        let outputs: BTreeSet<String> = outputs.unwrap_or_default();
        assert_eq!(compared, outputs, "{}: outputs compared (left) and listed (right)", self.value["id"]);
    }
}
