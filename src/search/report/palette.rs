//! Colors of pages and charts, for light and dark screens and for paper.

/// Names of the colors that are not of data, with their values on light and dark ground.
const GROUND: [(&str, &str, &str); 7] = [
    ("paper", "#ffffff", "#15181c"),
    ("panel", "#f6f7f8", "#1d2126"),
    ("ink", "#1c1e21", "#e4e6e8"),
    ("faint", "#5e646b", "#9aa2ab"),
    ("rule", "#dfe2e5", "#343a41"),
    ("accent", "#0063a3", "#62b3ee"),
    ("missing", "#eceef0", "#262b31"),
];

/// Series on light and dark ground: Okabe and Ito's colors, which people with any color vision tell apart, darkened or
/// lightened until they stand out.
const SERIES: [(&str, &str); 7] = [
    ("#0072b2", "#4aa8e8"),
    ("#c65102", "#ff9a55"),
    ("#008a62", "#35c79c"),
    ("#96507f", "#e29bc6"),
    ("#9a7400", "#e3b93d"),
    ("#3a93cc", "#a5d8ff"),
    ("#6b6f75", "#b4bac1"),
];

/// How many series have a color of their own.
pub(super) const SERIES_COLORS: usize = SERIES.len();

/// matplotlib's viridis at nine places (CC0).
const VIRIDIS: [(u8, u8, u8); 9] = [
    (68, 1, 84),
    (72, 40, 120),
    (62, 74, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (109, 205, 89),
    (253, 231, 37),
];

/// A color of the map, as `#rrggbb`, and whether dark letters are read on it. 0 is dark, 1 is light.
pub(super) fn heat(share: f64) -> (String, bool) {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let place = share * (VIRIDIS.len() - 1) as f64;
    let (low, high) = (VIRIDIS[place.floor() as usize], VIRIDIS[place.ceil() as usize]);
    let mix = |a: u8, b: u8| f64::from(a) + (f64::from(b) - f64::from(a)) * place.fract();
    let (r, g, b) = (mix(low.0, high.0), mix(low.1, high.1), mix(low.2, high.2));
    let luma = 0.299 * r + 0.587 * g + 0.114 * b;
    (format!("#{:02x}{:02x}{:02x}", r.round() as u8, g.round() as u8, b.round() as u8), luma > 125.0)
}

/// Style rules of all charts. Dark ones hold on dark screens only: paper is white.
pub(super) fn style() -> String {
    let rules = |dark: bool| {
        let mut text = String::from(":root{");
        for (name, light, darker) in GROUND {
            text += &format!("--{name}:{};", if dark { darker } else { light });
        }
        text += "}\n";
        let of = |name: &str| {
            let found = GROUND.iter().find(|color| color.0 == name);
            found.map_or("", |(_, light, darker)| if dark { darker } else { light })
        };
        text += &format!(
            ".ground{{fill:{}}}.ink{{fill:{}}}.faint{{fill:{}}}.missing{{fill:{}}}.rule{{stroke:{}}}.line{{stroke:{}}}\
             .mark{{fill:{};stroke:{}}}.halo{{stroke:{}}}.inkline{{stroke:{}}}.accent{{stroke:{}}}\n",
            of("paper"),
            of("ink"),
            of("faint"),
            of("missing"),
            of("rule"),
            of("faint"),
            of("ink"),
            of("paper"),
            of("paper"),
            of("ink"),
            of("accent"),
        );
        for (i, (light, darker)) in SERIES.iter().enumerate() {
            let color = if dark { darker } else { light };
            text += &format!(".f{i}{{fill:{color}}}.s{i}{{stroke:{color}}}\n");
        }
        text
    };
    format!("{}{}@media screen and (prefers-color-scheme:dark){{\n{}}}\n", FIXED, rules(false), rules(true))
}

/// What does not depend on the ground.
const FIXED: &str = "\
svg text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px}
svg .mono{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px}
svg .title{font-size:14px;font-weight:600}
svg .small{font-size:11px}
svg .halo{paint-order:stroke;stroke-width:3px;stroke-linejoin:round}
.rule,.line{fill:none;stroke-width:1}
.curve{fill:none;stroke-width:2;stroke-linejoin:round}
.thin{fill:none;stroke-width:1;stroke-opacity:.45}
.dash{stroke-dasharray:5 4}
.dot{fill-opacity:.6}
.ring{fill:none;stroke-width:2}
.band{fill-opacity:.18}
.off{display:none}
.live .key{cursor:pointer}
.key.out{opacity:.35}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_of_the_map() {
        assert_eq!(heat(0.0), ("#440154".to_owned(), false));
        assert_eq!(heat(1.0), ("#fde725".to_owned(), true));
        assert_eq!(heat(f64::NAN), heat(-3.0));
        assert_eq!(heat(0.5).0, "#26828e");
    }

    #[test]
    fn rules_are_closed_and_hold_no_markup() {
        let style = style();
        assert_eq!(style.matches('{').count(), style.matches('}').count());
        assert!(!style.contains(['<', '&']));
    }
}
