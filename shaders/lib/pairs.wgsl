// Two consecutive vec4 of a row.
struct Pair { low: vec4<f32>, high: vec4<f32> }
