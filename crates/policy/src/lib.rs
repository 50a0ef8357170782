//! Grants generate Cedar policies; policies are compiled to a decision table.
