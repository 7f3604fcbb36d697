//! Random numbers of one input.

/// `SplitMix64`: the same throws for the same seed everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
    loud: bool,
}

impl Dice {
    /// The dice of one input of a target.
    pub(crate) fn of(seed: u64, target: &str, input: u64) -> Self {
        let mut dice = Self { state: seed, loud: false };
        for byte in target.bytes() {
            dice.state = dice.roll() ^ u64::from(byte);
        }
        dice.state = dice.roll() ^ input;
        dice.state = dice.roll();
        dice
    }

    /// The same, and [`Dice::show`] prints.
    pub(crate) fn loud(self) -> Self {
        Self { loud: true, ..self }
    }

    /// Says what the input is, where somebody wants to see it.
    pub(crate) fn show(&self, input: impl FnOnce() -> String) {
        if self.loud {
            println!("{}", input());
        }
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    /// One time in `times`.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these, which are some.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
