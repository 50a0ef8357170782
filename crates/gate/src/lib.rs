//! The one place that sees both the home and a partner: decide and shape.
