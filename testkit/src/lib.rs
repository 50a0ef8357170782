//! Scaled and fake clocks, pretend partners.
