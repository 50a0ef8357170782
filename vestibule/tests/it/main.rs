//! The hub from outside: its command line, its sockets and its files, with real peers.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod browser;
mod command_line;
mod crash;
mod demo;
mod devices_and_alexa;
mod doctor;
mod foreign;
mod harness;
mod linking;
mod member;
mod recordings;
