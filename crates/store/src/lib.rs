//! SQLite behind the traits that home, links, policy and ledger define.
