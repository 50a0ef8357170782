//! Readings become home state and history. No input or output, no clock.
