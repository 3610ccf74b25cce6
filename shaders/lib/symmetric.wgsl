// The scale of symmetric codes of at most `limit` for values of at most `largest`: 1 where all are 0. The smallest normal
// number keeps a flushed scale from dividing by zero.
fn symmetric_scale(largest: f32, limit: f32) -> f32 {
    return select(1.0, max(largest / limit, 1.17549435e-38), largest > 0.0);
}
