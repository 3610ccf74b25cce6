// A sum is one number here: row m of x, row n of this part of the matrix.
alias Sum = f32;
alias Count = i32;

// Where y, residual (and, of row 0, bias) have what belongs to a sum; params.y_offset is the first column of this part.
fn sum_at(m: u32, n: u32) -> u32 { return m * params.y_stride + params.y_offset + n; }
