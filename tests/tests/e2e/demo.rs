//! (k) The first command of the README.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use federation_tests::{Outcome, program};

#[test]
fn the_demo_tells_its_story_and_loses_no_request_in_the_planned_drain() -> Result<()> {
    let start = Instant::now();
    let outcome = Outcome::of(Command::new(program("fedctl")?).args(["demo", "--evict-after", "4"]))?;
    assert!(outcome.success, "{}{}", outcome.stdout, outcome.stderr);
    // Under 60 s in a release build; this one is not optimised, and the machine may be busy.
    assert!(start.elapsed() < Duration::from_secs(120), "it took {:?}", start.elapsed());
    eprintln!("{}", outcome.stdout);
    Ok(())
}
