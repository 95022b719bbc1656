//! Seeded chance (splitmix64), so that a game can be replayed. Not for secrets.

/// A sequence of numbers that depends only on its seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; zero when `bound` is zero. The bias is below one in 2^48 here,
    /// where bounds stay under 2^16.
    pub(crate) fn below(&mut self, bound: u16) -> u16 {
        let picked = self.next() % u64::from(bound.max(1));
        u16::try_from(picked).unwrap_or(0)
    }
}
