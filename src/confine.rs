//! Giving up what a role does not need, right after binding.
