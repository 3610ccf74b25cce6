//! Places for the labels of a scatter chart, so that none covers another one or a point.

/// A rectangle in pixels, y downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rect {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

/// Space kept around labels, in pixels.
const GAP: f64 = 2.0;
/// Distances between a point and its label, in pixels, the first ones without a line between them.
const DISTANCES: [f64; 16] =
    [7.0, 9.0, 12.0, 16.0, 21.0, 27.0, 34.0, 42.0, 51.0, 61.0, 72.0, 84.0, 98.0, 114.0, 132.0, 152.0];
/// From this distance on a line leads from the point to its label.
pub(crate) const LEADER: f64 = 12.0;
/// Directions tried at every distance, in the order of preference: sixteenths of a turn, 0 to the right, 4 up.
const DIRECTIONS: [u8; 16] = [0, 8, 1, 15, 7, 9, 4, 12, 2, 14, 6, 10, 3, 13, 5, 11];

impl Rect {
    pub(crate) fn around((x, y): (f64, f64), width: f64, height: f64) -> Self {
        let (width, height) = (width / 2.0, height / 2.0);
        Self { left: x - width, top: y - height, right: x + width, bottom: y + height }
    }

    fn grown(self, by: f64) -> Self {
        Self { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }

    fn overlaps(self, other: Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn is_within(self, other: Self) -> bool {
        self.left >= other.left
            && self.right <= other.right
            && self.top >= other.top
            && self.bottom <= other.bottom
    }

    /// The point of the rectangle that is nearest to a point.
    pub(crate) fn nearest(self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }

    /// Whether a line segment passes through (Liang and Barsky 1984).
    fn is_crossed(self, (a, b): ((f64, f64), (f64, f64))) -> bool {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let (mut enter, mut leave) = (0.0f64, 1.0f64);
        for (direction, distance) in
            [(-dx, a.0 - self.left), (dx, self.right - a.0), (-dy, a.1 - self.top), (dy, self.bottom - a.1)]
        {
            if direction == 0.0 {
                if distance < 0.0 {
                    return false;
                }
                continue;
            }
            let at = distance / direction;
            if direction < 0.0 { enter = enter.max(at) } else { leave = leave.min(at) }
        }
        enter < leave
    }
}

/// What is on the chart so far.
pub(crate) struct Placer {
    bounds: Rect,
    points: Vec<(f64, f64)>,
    /// Size of the squares that points keep free.
    point: f64,
    placed: Vec<Rect>,
    leaders: Vec<((f64, f64), (f64, f64))>,
}

impl Placer {
    /// A chart within `bounds` with points of a diameter.
    pub(crate) fn new(bounds: Rect, points: &[(f64, f64)], diameter: f64) -> Self {
        let point = diameter + 2.0;
        Self { bounds, points: points.to_vec(), point, placed: Vec::new(), leaders: Vec::new() }
    }

    /// The nearest free place for the label of a point, which is then taken; `None` where there is none.
    pub(crate) fn place(&mut self, point: (f64, f64), width: f64, height: f64) -> Option<Rect> {
        for distance in DISTANCES {
            for direction in DIRECTIONS {
                let angle = f64::from(direction) * std::f64::consts::TAU / 16.0;
                let center = (
                    point.0 + angle.cos() * (distance + width / 2.0),
                    point.1 - angle.sin() * (distance + height / 2.0),
                );
                let rect = Rect::around(center, width, height);
                let leader = (point, rect.nearest(point));
                let is_long = distance >= LEADER;
                if self.is_free(point, rect, is_long.then_some(leader)) {
                    self.placed.push(rect);
                    self.leaders.extend(is_long.then_some(leader));
                    return Some(rect);
                }
            }
        }
        None
    }

    fn is_free(&self, point: (f64, f64), rect: Rect, leader: Option<((f64, f64), (f64, f64))>) -> bool {
        let grown = rect.grown(GAP);
        let squares = || self.points.iter().map(|&p| Rect::around(p, self.point, self.point));
        // A line cannot avoid points that lie on its own one.
        let own = Rect::around(point, self.point, self.point);
        let is_clear = |leader| {
            !self.placed.iter().any(|other| other.is_crossed(leader))
                && !squares().any(|square| !square.overlaps(own) && square.is_crossed(leader))
        };
        rect.is_within(self.bounds)
            && !self.placed.iter().any(|other| grown.overlaps(*other))
            && !squares().any(|square| rect.overlaps(square))
            && !self.leaders.iter().any(|&leader| grown.is_crossed(leader))
            && leader.is_none_or(is_clear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Rect = Rect { left: 0.0, top: 0.0, right: 800.0, bottom: 500.0 };

    #[test]
    fn a_lone_point_has_its_label_to_the_right() {
        let mut placer = Placer::new(BOUNDS, &[(100.0, 100.0)], 8.0);
        let rect = placer.place((100.0, 100.0), 50.0, 12.0).unwrap();
        assert_eq!(rect, Rect { left: 107.0, top: 94.0, right: 157.0, bottom: 106.0 });
        // At the right border it goes to the left.
        let mut placer = Placer::new(BOUNDS, &[(790.0, 100.0)], 8.0);
        assert_eq!(placer.place((790.0, 100.0), 50.0, 12.0).unwrap().right, 783.0);
        assert_eq!(placer.place((790.0, 100.0), 900.0, 12.0), None);
    }

    #[test]
    fn crowded_labels_do_not_overlap() {
        // Columns of points closer than the labels are high.
        let points: Vec<(f64, f64)> =
            (0..40).map(|i| (200.0 + f64::from(i % 4) * 90.0, 40.0 + f64::from(i / 4) * 9.0)).collect();
        let mut placer = Placer::new(BOUNDS, &points, 8.0);
        let placed: Vec<(usize, Rect)> =
            (0..points.len()).filter_map(|i| Some((i, placer.place(points[i], 100.0, 13.0)?))).collect();
        assert!(placed.len() >= 25, "{}", placed.len());
        for (i, (at, rect)) in placed.iter().enumerate() {
            assert!(rect.is_within(BOUNDS));
            assert!(placed[..i].iter().all(|(_, other)| !rect.overlaps(*other)), "{at}");
            assert!(points.iter().all(|&p| !rect.overlaps(Rect::around(p, 8.0, 8.0))), "{at}");
        }
    }

    #[test]
    fn segments_cross_rectangles() {
        let rect = Rect { left: 10.0, top: 10.0, right: 20.0, bottom: 20.0 };
        for (a, b, want) in [
            ((0.0, 15.0), (30.0, 15.0), true),
            ((0.0, 0.0), (30.0, 30.0), true),
            ((12.0, 12.0), (13.0, 13.0), true),
            ((0.0, 25.0), (30.0, 25.0), false),
            ((0.0, 0.0), (9.0, 30.0), false),
            ((15.0, 0.0), (15.0, 9.0), false),
        ] {
            assert_eq!(rect.is_crossed((a, b)), want, "{a:?} {b:?}");
        }
    }
}
