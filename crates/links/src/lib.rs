//! Links between partners and the household, and their tokens.
