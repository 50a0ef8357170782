//! Colours: hue and saturation, as the house keeps them, to and from what lamps speak. Brightness is none of it.
//!
//! Red, green and blue are those of sRGB (IEC 61966-2-1), the chromaticity that of CIE 1931 under its white point D65.

/// Hue in degrees and saturation in percent, of parts of 1.
pub(crate) fn hs_of_rgb([r, g, b]: [f64; 3]) -> (f64, f64) {
    let max = r.max(g).max(b);
    let span = max - r.min(g).min(b);
    if span <= 0.0 || max <= 0.0 {
        return (0.0, 0.0);
    }
    let sixth = if max == r {
        ((g - b) / span).rem_euclid(6.0)
    } else if max == g {
        (b - r) / span + 2.0
    } else {
        (r - g) / span + 4.0
    };
    (sixth * 60.0, span / max * 100.0)
}

/// Red, green and blue at full brightness, parts of 1.
pub(crate) fn rgb_of_hs(hue: f64, saturation: f64) -> [f64; 3] {
    let part = |n: f64| {
        let k = (n + hue / 60.0).rem_euclid(6.0);
        1.0 - saturation / 100.0 * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    [part(5.0), part(3.0), part(1.0)]
}

/// The chromaticity of a colour; that of white for black.
pub(crate) fn xy_of_rgb(rgb: [f64; 3]) -> (f64, f64) {
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    let [r, g, b] = rgb.map(linear);
    let x = 0.4124 * r + 0.3576 * g + 0.1805 * b;
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let z = 0.0193 * r + 0.1192 * g + 0.9505 * b;
    let sum = x + y + z;
    if sum <= 0.0 { (0.3127, 0.3290) } else { (x / sum, y / sum) }
}

/// The colour of a chromaticity at full brightness; none for what is no light.
pub(crate) fn rgb_of_xy(x: f64, y: f64) -> Option<[f64; 3]> {
    if !(0.0..=1.0).contains(&x) || !(0.001..=1.0).contains(&y) || x + y > 1.0 {
        return None;
    }
    let (big_x, big_z) = (x / y, (1.0 - x - y) / y);
    let linear = [
        3.2406 * big_x - 1.5372 - 0.4986 * big_z,
        -0.9689 * big_x + 1.8758 + 0.0415 * big_z,
        0.0557 * big_x - 0.2040 + 1.0570 * big_z,
    ];
    let top = linear.iter().copied().fold(0.0, f64::max);
    if top <= 0.0 {
        return None;
    }
    let gamma = |c: f64| if c <= 0.003_130_8 { 12.92 * c } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 };
    Some(linear.map(|c| gamma((c / top).clamp(0.0, 1.0))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_colours_are_known() {
        for (rgb, hs) in [
            ([1.0, 0.0, 0.0], (0.0, 100.0)),
            ([0.0, 1.0, 0.0], (120.0, 100.0)),
            ([0.0, 0.0, 1.0], (240.0, 100.0)),
            ([1.0, 1.0, 1.0], (0.0, 0.0)),
            ([0.0, 0.0, 0.0], (0.0, 0.0)),
        ] {
            assert_eq!(hs_of_rgb(rgb), hs);
        }
        let (x, y) = xy_of_rgb([1.0, 0.0, 0.0]);
        assert!((x - 0.64).abs() < 0.001 && (y - 0.33).abs() < 0.001, "{x} {y}");
        assert_eq!(rgb_of_xy(0.9, 0.9), None);
    }

    proptest! {
        /// A colour comes back from each form nearly as it was.
        #[test]
        fn a_colour_survives_the_way_there_and_back(hue in 0.0f64..359.9, saturation in 5.0f64..=100.0) {
            let rgb = rgb_of_hs(hue, saturation);
            let near = |(h, s): (f64, f64), by: f64| {
                let turn = (h - hue).abs();
                turn.min(360.0 - turn) < by && (s - saturation).abs() < by
            };
            prop_assert!(near(hs_of_rgb(rgb), 1e-6));
            let (x, y) = xy_of_rgb(rgb);
            prop_assert!(near(hs_of_rgb(rgb_of_xy(x, y).unwrap()), 1.0));
        }
    }
}
