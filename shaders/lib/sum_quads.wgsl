// A sum is four columns of y here, from n on: y, residual and bias are read and stored as vec4, which costs a software
// driver what one number does. Preconditions: rows of the matrix, y_stride and y_offset are multiples of 4.
alias Sum = vec4<f32>;
alias Count = vec4<i32>;

fn sum_at(m: u32, n: u32) -> u32 { return (m * params.y_stride + params.y_offset + n) / 4u; }
