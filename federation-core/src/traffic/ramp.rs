//! Weights that rise and fall in steps: slow start and drain.
//!
//! Ten steps, since each is a zone of its own that every server must load: finer ones would cost more than they smooth.

/// The whole weight, in steps.
pub const RAMP_STEPS: u32 = 10;

/// A moment of a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// Tenths of the weight.
    pub steps: u32,
    /// When the next step is due, Unix milliseconds.
    pub next_ms: Option<i64>,
}

impl Ramp {
    /// Not a ramp any more.
    pub const FULL: Self = Self { steps: RAMP_STEPS, next_ms: None };

    /// Rises from one tenth at `since_ms` to the whole, `seconds` later.
    pub fn up(since_ms: i64, seconds: u32, now_ms: i64) -> Self {
        let Some(done) = steps_done(since_ms, seconds, now_ms) else { return Self::FULL };
        let steps = (done + 1).min(RAMP_STEPS);
        let next_ms = (steps < RAMP_STEPS).then(|| step_ms(since_ms, seconds, done + 1));
        Self { steps, next_ms }
    }

    /// Falls from the whole at `since_ms` to nothing, `seconds` later.
    pub fn down(since_ms: i64, seconds: u32, now_ms: i64) -> Self {
        let Some(done) = steps_done(since_ms, seconds, now_ms) else {
            return Self { steps: 0, next_ms: None };
        };
        Self { steps: RAMP_STEPS - done, next_ms: Some(step_ms(since_ms, seconds, done + 1)) }
    }
}

/// Whole steps that are over; none once all are. A clock that went back has done none.
fn steps_done(since_ms: i64, seconds: u32, now_ms: i64) -> Option<u32> {
    let whole = i64::from(seconds) * 1000;
    let elapsed = now_ms.saturating_sub(since_ms).max(0);
    if elapsed >= whole {
        return None;
    }
    u32::try_from(elapsed * i64::from(RAMP_STEPS) / whole).ok()
}

/// The first millisecond of a step.
fn step_ms(since_ms: i64, seconds: u32, step: u32) -> i64 {
    let whole = i64::from(seconds) * 1000;
    let steps = i64::from(RAMP_STEPS);
    since_ms.saturating_add((whole * i64::from(step) + steps - 1) / steps)
}
