//! Memory that clients hold together: what a server registers at most is a sum over all of them.

use std::sync::{Mutex, PoisonError};

/// How much there is for all, and how much of it is held.
pub struct Shares {
    most: u64,
    held: Mutex<u64>,
}

/// What one client holds, given back when it goes.
pub struct Share<'a> {
    of: &'a Shares,
    bytes: u64,
}

impl Shares {
    /// Of so much.
    pub fn new(most: u64) -> Self {
        Self { most, held: Mutex::new(0) }
    }

    /// A client's, which holds nothing yet.
    pub fn share(&self) -> Share<'_> {
        Share { of: self, bytes: 0 }
    }
}

impl Share<'_> {
    /// Holds so much instead of what it held.
    ///
    /// # Errors
    /// Others hold too much for that: what it held it still holds.
    pub fn hold(&mut self, bytes: u64) -> Result<(), String> {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        let others = held.saturating_sub(self.bytes);
        match others.checked_add(bytes).filter(|sum| *sum <= self.of.most) {
            Some(sum) => {
                (*held, self.bytes) = (sum, bytes);
                Ok(())
            }
            None => Err(format!(
                "memory in bytes: {bytes} asked, {others} held by other clients, {} at most for all of them (--max-memory of `rdmadoctor peer`)",
                self.of.most
            )),
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        // Less is never refused.
        let _ = self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_bounded_and_what_goes_is_given_back() {
        let shares = Shares::new(100);
        let (mut one, mut two) = (shares.share(), shares.share());
        one.hold(60).unwrap();
        two.hold(40).unwrap();
        let refusal = two.hold(41).unwrap_err();
        assert!(refusal.contains("41 asked, 60 held by other clients, 100 at most"), "{refusal}");
        assert!(one.hold(u64::MAX).is_err());
        // Who asks again holds the one or the other, and not both.
        one.hold(50).unwrap();
        two.hold(50).unwrap();
        assert!(two.hold(51).is_err());
        drop(one);
        two.hold(100).unwrap();
        two.hold(0).unwrap();
        shares.share().hold(100).unwrap();
        two.hold(100).unwrap();
    }
}
