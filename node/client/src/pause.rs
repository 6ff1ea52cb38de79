//! How long to wait before trying again: doubling, bounded, jittered.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;

/// Waiting times of one thing that is tried again and again.
#[derive(Debug, Default)]
pub struct Pause {
    failures: u32,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(15);

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: waits between half of and the whole next step.
    pub async fn wait(&mut self) {
        let step = self.step(random_byte());
        tokio::time::sleep(step).await;
    }

    fn step(&mut self, random: u8) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        full / 2 + full / 2 * u32::from(random) / 255
    }
}

/// A failing random source only costs the jitter.
fn random_byte() -> u8 {
    let mut byte = [0];
    aws_lc_rs::default_provider().secure_random.fill(&mut byte).map_or(0, |()| byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_to_a_bound_and_start_again() {
        let mut pause = Pause::default();
        let steps: Vec<_> = (0..100).map(|_| pause.step(255)).collect();
        assert_eq!(steps.first(), Some(&Pause::FIRST));
        assert!(steps.is_sorted());
        assert_eq!(steps.last(), Some(&Pause::LONGEST));
        pause.reset();
        assert_eq!(pause.step(0), Pause::FIRST / 2);
    }
}
