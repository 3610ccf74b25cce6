//! Matrices of numbers in `.npy` and `.safetensors` files.

use super::atomic;
use super::checkpoint::{Dtype, TensorFile};
use super::writer::{Planned, Writer};
use crate::error::{Error, Result, invalid};
use std::path::Path;

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixFile {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` values.
    pub values: Vec<f32>,
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";

impl MatrixFile {
    /// Reads a matrix; a vector is one row. A `.safetensors` file holds one tensor, or several of which `tensor` names
    /// one; a `.npy` file is in C order, of f16, f32 or f64.
    ///
    /// # Errors
    /// When the file is damaged or holds no such matrix.
    pub fn read(path: &Path, tensor: Option<&str>) -> Result<Self> {
        if extension(path) == Some("npy") {
            let bytes = std::fs::read(path).map_err(|source| Error::io("cannot read", path, source))?;
            return npy(&bytes, &path.display().to_string());
        }
        if extension(path) != Some("safetensors") {
            invalid!("{}: want a .npy or .safetensors file", path.display());
        }
        let file = TensorFile::open(path)?;
        let names =
            || file.tensors().iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = match tensor {
            Some(name) => file.get(name),
            None if file.tensors().len() == 1 => file.tensors().first(),
            None => None,
        };
        let Some(found) = found else {
            match tensor {
                Some(name) => invalid!("{} has no tensor `{name}`; it has {}", file.label(), names()),
                None => invalid!(
                    "{} has {} tensors, want one; name one with --tensor: {}",
                    file.label(),
                    file.tensors().len(),
                    names()
                ),
            }
        };
        let (rows, cols) = shape(&found.shape, file.label())?;
        Ok(Self { rows, cols, values: file.widen(found)? })
    }

    /// Writes it as f32, as the name says: `.npy`, or `.safetensors` with one tensor called `tensor`. A file is written
    /// whole or not at all.
    ///
    /// # Errors
    /// When the name ends in neither, or the file cannot be written.
    pub fn write(&self, path: &Path, tensor: &str) -> Result<()> {
        match extension(path) {
            Some("npy") => {
                let mut bytes = npy_header(self.rows, self.cols);
                bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
                atomic::write(path, &bytes)
            }
            Some("safetensors") => {
                let planned =
                    Planned { name: tensor.to_owned(), dtype: Dtype::F32, shape: vec![self.rows, self.cols] };
                let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
                let mut writer = Writer::create(path, &[planned], &[])?;
                writer.write(0, &bytes)?;
                writer.finish().map(drop)
            }
            _ => invalid!("{}: want a name that ends in .npy or .safetensors", path.display()),
        }
    }

    /// Checks that `path` names a file that [`MatrixFile::write`] writes.
    ///
    /// # Errors
    /// When it ends in neither `.npy` nor `.safetensors`.
    pub fn check_name(path: &Path) -> Result<()> {
        match extension(path) {
            Some("npy" | "safetensors") => Ok(()),
            _ => invalid!("{}: want a name that ends in .npy or .safetensors", path.display()),
        }
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

fn shape(dimensions: &[usize], label: &str) -> Result<(usize, usize)> {
    match *dimensions {
        [cols] => Ok((1, cols)),
        [rows, cols] => Ok((rows, cols)),
        _ => invalid!("{label} holds an array of shape {dimensions:?}; want a matrix"),
    }
}

/// Version 1.0 of the format: magic, version, length of the header, and a Python dictionary that ends in a new line at a
/// multiple of 64 bytes.
fn npy_header(rows: usize, cols: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let fixed = MAGIC.len() + 4;
    let padded = (fixed + text.len() + 1).next_multiple_of(64);
    text.push_str(&" ".repeat(padded - fixed - text.len() - 1));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn npy(bytes: &[u8], label: &str) -> Result<MatrixFile> {
    let broken = |what: &str| Error::Invalid(format!("{label} is no .npy file: {what}"));
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| broken("it does not begin with the magic bytes"))?;
    let (length, rest) = match *rest {
        [1, _, a, b, ref rest @ ..] => (usize::from(u16::from_le_bytes([a, b])), rest),
        [2 | 3, _, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]) as usize, rest),
        _ => return Err(broken("versions 1 to 3 are known")),
    };
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err(broken("it ends within its header"));
    };
    let header = std::str::from_utf8(header).map_err(|_| broken("the header is no text"))?;
    // The text behind `'key':`.
    let value = |key: &str| {
        let at = header.find(&format!("'{key}':")).map(|at| at + key.len() + 3);
        at.map(|at| header[at..].trim_start()).ok_or_else(|| broken(&format!("the header has no {key}")))
    };
    if !value("fortran_order")?.starts_with("False") {
        invalid!("{label} is in Fortran order; save it with numpy.ascontiguousarray");
    }
    let dimensions = value("shape")?.strip_prefix('(').and_then(|text| Some(text.split_once(')')?.0));
    let dimensions = dimensions.ok_or_else(|| broken("the shape is no tuple"))?.split(',').map(str::trim);
    let dimensions: Vec<usize> = dimensions
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| broken("the shape is no tuple of numbers")))
        .collect::<Result<_>>()?;
    let (rows, cols) = shape(&dimensions, label)?;
    let descr = value("descr")?.trim_start_matches('\'').split('\'').next().unwrap_or_default();
    let size = match descr {
        "<f2" => 2,
        "<f4" => 4,
        "<f8" => 8,
        other => {
            invalid!("{label} holds values of type `{other}`; want <f4, <f2 or <f8: save it as numpy.float32")
        }
    };
    if rows.checked_mul(cols).and_then(|count| count.checked_mul(size)) != Some(data.len()) {
        invalid!(
            "{label} holds {} bytes of data; the shape ({rows}, {cols}) of {descr} wants another number",
            data.len()
        );
    }
    let values = data.chunks_exact(size).map(|bytes| match *bytes {
        [a, b] => half::f16::from_le_bytes([a, b]).to_f32(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
        _ => f32::NAN,
    });
    Ok(MatrixFile { rows, cols, values: values.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn round_trips() {
        let folder = tempfile::tempdir().unwrap();
        for (rows, cols) in [(2, 3), (1, 1), (7, 5), (0, 4)] {
            let values = (0..rows * cols).map(|i| i as f32 * 0.1 - 0.3).collect();
            let matrix = MatrixFile { rows, cols, values };
            for name in ["a.npy", "a.safetensors"] {
                let path = folder.path().join(name);
                matrix.write(&path, "rows").unwrap();
                assert_eq!(MatrixFile::read(&path, None).unwrap(), matrix, "{name}");
            }
            assert_eq!(npy_header(rows, cols).len() % 64, 0);
        }
        let path = folder.path().join("a.safetensors");
        assert!(MatrixFile::read(&path, Some("cols")).unwrap_err().to_string().contains("it has rows"));
        assert!(MatrixFile::read(&folder.path().join("a.bin"), None).is_err());
    }

    /// What numpy 1.26 writes for `numpy.array([1, 2], dtype)`, byte by byte but for the padding of the header.
    #[test]
    fn other_types_and_vectors() {
        let header =
            |descr: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n");
        let want = MatrixFile { rows: 1, cols: 2, values: vec![1.0, 2.0] };
        let double: Vec<u8> = [1.0f64, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        for (descr, data) in [("<f4", floats(&[1.0, 2.0])), ("<f2", vec![0, 0x3c, 0, 0x40]), ("<f8", double)]
        {
            assert_eq!(npy(&file(&header(descr), &data), "f").unwrap(), want, "{descr}");
        }
    }

    #[test]
    fn damaged_files() {
        let header = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
        };
        let data = floats(&[1.0, 2.0]);
        let good = header("<f4", "False", "(1, 2)");
        for (bytes, wanted) in [
            (b"PK".to_vec(), "magic"),
            (b"\x93NUMPY".to_vec(), "versions"),
            (b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(), "ends within its header"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec(), "ends within its header"),
            (file("{}", &data), "no fortran_order"),
            (file(&header("<f4", "True", "(1, 2)"), &data), "Fortran"),
            (file(&header("<i8", "False", "(1, 2)"), &data), "`<i8`"),
            (file(&header("<f4", "False", "(1, 2, 1)"), &data), "[1, 2, 1]"),
            (file(&header("<f4", "False", "()"), &data), "[]"),
            (file(&header("<f4", "False", "(1, x)"), &data), "tuple of numbers"),
            (file(&header("<f4", "False", "1, 2"), &data), "no tuple"),
            (file(&header("<f4", "False", "(4611686018427387904, 4)"), &data), "8 bytes of data"),
            (file(&header("<f4", "False", "(1000000000, 1000000)"), &data), "8 bytes of data"),
            (file(&good, &data[..7]), "7 bytes of data"),
            (file(&good, &floats(&[1.0; 3])), "12 bytes of data"),
        ] {
            let error = npy(&bytes, "f.npy").unwrap_err().to_string();
            assert!(error.starts_with("f.npy") && error.contains(wanted), "{error:?} lacks {wanted:?}");
        }
    }
}
