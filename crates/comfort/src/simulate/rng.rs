//! A small deterministic generator of pseudo-random numbers.

/// SplitMix64 (Steele, Lea and Flood 2014): eight bytes of state, good enough for daily lives, never for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for one purpose: the same `seed`, `stream` and `index` always give the same numbers, so that the
    /// plan of a day doesn't depend on how many numbers were drawn before it.
    pub fn new(seed: u64, stream: u64, index: i64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xA076_1D64_78BD_642F));
        rng.0 = rng.next() ^ (index.cast_unsigned()).wrapping_mul(0xE703_7ED1_A0B4_28DB);
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `centre - spread ..= centre + spread`, whole numbers.
    pub fn around(&mut self, centre: i64, spread: i64) -> i64 {
        let width = (2 * spread + 1) as f64;
        centre - spread + (self.unit() * width) as i64
    }
}
